"""The layers of the gradient table nobody chose."""

from __future__ import annotations

import torch
from torch import nn

from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.probes.table.residual import Residual


def default_layers(seed: int) -> list[nn.Module]:
    """A convolution, a skip around one, batch norm, and the other rows of a table of layers; drawn from the seed."""
    with kept_random(torch.device("cpu")):
        seed_all(seed)
        layers = [
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            Residual(nn.Conv2d(4, 4, 3, padding=1)),
            nn.BatchNorm2d(4),
            Residual(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, bias=False))),
            nn.Linear(6, 4),
            nn.LayerNorm(6),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
        ]
        for layer in layers:
            lived_in(layer)
    return layers


def lived_in(model: nn.Module) -> None:
    """Gives norms weights and running statistics other than those they start with, which would hide γ and σ."""
    for layer in model.modules():
        if "Norm" in type(layer).__name__:
            for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
                if name in ("weight", "running_var"):
                    nn.init.uniform_(tensor, 0.5, 2.0)
                elif name in ("bias", "running_mean"):
                    nn.init.normal_(tensor)
