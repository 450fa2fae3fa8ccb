"""APP-FLOW: how each pixel has moved, by a U-Net with its long skips and without; and RAFT, found and measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.extras import wanted
from skipgrad.lab.applications import (
    WITH,
    WITHOUT,
    Measure,
    application,
    contest,
    found_and_measured,
    over_all,
    parts,
)
from skipgrad.lab.claim import Setting, Values
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import fit

BATCH, EPOCHS, QUICK_EPOCHS, RATES = 32, 3, 2, (5e-3, 2e-3)
ERROR = Measure("endpoint error, pixels", higher=False, learned=0.3, gap=0.03)


def one_seed(setting: Setting) -> Values:
    """Both nets on generated pairs; and, in the full version, one pair through RAFT."""
    args = {"in_channels": 2, "num_classes": 2}
    joins = {WITH: "concat", WITHOUT: "none"}
    work = {
        name: parts(fit("skipgrad:unet", {**args, "skip": join}, "flow", batch_size=BATCH), 0.125)
        for name, join in joins.items()
    }
    train, held = work[WITH]
    assert train.data.size is not None
    steps = (QUICK_EPOCHS if setting.quick else EPOCHS) * (train.data.size // BATCH)
    recipe = Recipe(steps, BATCH, "adamw", clip=1.0, weight_decay=1e-4, warmup=0.05, schedule="cosine")
    values = contest(
        {name: t for name, (t, _) in work.items()}, recipe, RATES, ERROR, over_all(held, endpoint), setting, long=True
    )
    if setting.quick:
        return values
    setting.say("RAFT on one pair")
    return values | raft(setting.seed)


def endpoint(flow: Tensor, truth: Tensor) -> Tensor:
    """How far each pixel's flow is from the true one, (N, H, W) pixels."""
    return (flow - truth).norm(dim=1)


def raft(seed: int) -> Values:
    """torchvision's small RAFT with weights as drawn, three updates, on one pair of noise images."""
    with wanted("models", "measuring RAFT"):
        from torchvision.models.optical_flow import raft_small
    pair = torch.rand(2, 1, 3, 128, 128, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    def loss(flows: list[Tensor]) -> Tensor:
        return torch.stack([f.abs().mean() for f in flows]).sum()

    return found_and_measured("RAFT", lambda: _few_updates(raft_small(weights=None)), tuple(pair), loss)


def _few_updates(model: nn.Module) -> nn.Module:
    class Few(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.raft = model

        def forward(self, first: Tensor, second: Tensor) -> list[Tensor]:
            return self.raft(first, second, num_flow_updates=3)

    return Few().train()


CLAIM = application(
    ERROR,
    id="APP-FLOW",
    title="Optical flow: long skips against none",
    statement="A U-Net says how each pixel moved between two images more closely when its decoder gets the "
    "encoder's features.",
    anchor="FlowNet's decoder takes the encoder's features (Dosovitskiy et al. 2015); RAFT (Teed, Deng 2020) has "
    "residual encoders",
    setting=f"2,048 generated pairs of 32×32 (an eighth held out), U-Net of width 8, {EPOCHS} epochs of {BATCH}, "
    "AdamW at the "
    f"better of {RATES}, cosine, clipped at 1, squared error; RAFT: one pair of 128×128, three updates",
    one_seed=one_seed,
    duration="one minute",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=204)
