"""What a net of the clinic is, and the small tasks that it learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[tuple[Any, ...], Tensor]
Batches = Callable[[int], Batch]
Loss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One net, its task and how it is trained.

    Attributes:
        name: unique in its registry.
        build: makes the model; torch is seeded before.
        batches: step → inputs and targets.
        loss: output and targets → a scalar.
        rate: learning rate.
        optimizer: ``"adam"``, ``"adamw"``, ``"rmsprop"`` or ``"sgd"`` (momentum .9).
        steps: of training.
        disease: codes of which one has to be found as a warning or an error; empty for a healthy net.
        cured: the same net without the disease.
        warm: steps of warm-up.
        chance: loss of the best constant answer, handed to the diagnosis where it is given.
        every: as `sg.watch` takes it.
        fast: whether it is in the subset that the tests run.
        changed: step → a new learning rate from there on.
        seed: of the weights, before `build`.
        parameters: what the optimizer is given; None for whatever asks for a gradient.
        keeps_gradient: nobody clears the gradient between steps.
        attach: given the optimizer, for what was done to the model and steps in before each step.
        why: why these codes are right, written before the tool was asked.
    """

    name: str
    build: Callable[[], nn.Module]
    batches: Batches
    loss: Loss
    rate: float = 1e-3
    optimizer: str = "adam"
    steps: int = 40
    disease: tuple[str, ...] = ()
    cured: Case | None = None
    warm: int = 0
    chance: float | None = None
    every: int = 1
    fast: bool = False
    changed: tuple[int, float] | None = None
    seed: int = 0
    parameters: Callable[[nn.Module], list[nn.Parameter]] | None = None
    keeps_gradient: bool = False
    attach: Callable[[torch.optim.Optimizer], None] | None = None
    why: str = ""


def vectors(classes: int = 4, width: int = 64, batch: int = 32, noise: float = 1.0) -> Batches:
    """Classes around random centres."""
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(1))

    def at(step: int) -> Batch:
        g = torch.Generator().manual_seed(100 + step)
        y = torch.randint(classes, (batch,), generator=g)
        return (centres[y] + noise * torch.randn(batch, width, generator=g),), y

    return at


def images(classes: int = 10, size: int = 32, batch: int = 16, channels: int = 3, noise: float = 0.7) -> Batches:
    """Noisy copies of one random picture a class."""
    pictures = torch.randn(classes, channels, size, size, generator=torch.Generator().manual_seed(1))
    pictures = F.avg_pool2d(pictures, 5, 1, 2) * 3

    def at(step: int) -> Batch:
        g = torch.Generator().manual_seed(100 + step)
        y = torch.randint(classes, (batch,), generator=g)
        return (pictures[y] + noise * torch.randn(batch, channels, size, size, generator=g),), y

    return at


def tokens(vocabulary: int = 64, length: int = 16, batch: int = 8) -> Batches:
    """Counting on in steps of one to three, modulo the vocabulary: the next token is the target."""

    def at(step: int) -> Batch:
        g = torch.Generator().manual_seed(100 + step)
        start, pace = torch.randint(vocabulary, (batch, 1), generator=g), torch.randint(1, 4, (batch, 1), generator=g)
        ids = (start + pace * torch.arange(length + 1)) % vocabulary
        return (ids[:, :-1],), ids[:, 1:]

    return at


def sentences(classes: int = 4, vocabulary: int = 64, length: int = 16, batch: int = 16) -> Batches:
    """Random tokens among which those of the class are strewn."""

    def at(step: int) -> Batch:
        g = torch.Generator().manual_seed(100 + step)
        y = torch.randint(classes, (batch,), generator=g)
        ids = torch.randint(8, vocabulary, (batch, length), generator=g)
        ids[torch.arange(batch)[:, None], torch.randint(length, (batch, 5), generator=g)] = y[:, None]
        return (ids,), y

    return at


def masks(size: int = 64, batch: int = 4, channels: int = 1) -> Batches:
    """Where the mean of the surroundings is above zero."""

    def at(step: int) -> Batch:
        x = torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(100 + step))
        return (x,), (F.avg_pool2d(x[:, :1], 9, 1, 4) > 0).float()

    return at


def regression(width: int = 16, batch: int = 32) -> Batches:
    """A smooth function of a few coordinates."""

    def at(step: int) -> Batch:
        x = torch.randn(batch, width, generator=torch.Generator().manual_seed(100 + step))
        return (x,), (x[:, :1].sin() + x[:, 1:2] * x[:, 2:3].tanh())

    return at


def entropy(out: Any, y: Tensor) -> Tensor:
    """Cross entropy of the last dimension, of a tensor or of whatever has logits."""
    out = logits(out)
    return F.cross_entropy(out.flatten(0, -2), y.flatten())


def binary(out: Any, y: Tensor) -> Tensor:
    """Binary cross entropy of logits."""
    return F.binary_cross_entropy_with_logits(logits(out), y)


def squares(out: Any, y: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(logits(out), y)


def logits(out: Any) -> Tensor:
    """The tensor of an output that may be a record or a tuple."""
    for name in ("logits", "sample"):
        out = getattr(out, name, out)
    return out[0] if isinstance(out, tuple | list) else out


def rescaled(model: nn.Module, gain: float, nonlinear: float = 2.0) -> nn.Module:
    """He's initialisation times ``gain`` in every linear layer and convolution but the last; biases zero."""
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for layer in layers[:-1]:
        fan = layer.weight[0].numel()
        nn.init.normal_(layer.weight, std=gain * math.sqrt(nonlinear / fan))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model
