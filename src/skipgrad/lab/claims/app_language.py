"""APP-LANGUAGE: a character model of Python source, a transformer with its skips and without."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import CausalSelfAttention, FeedForward
from skipgrad.core import Recipe
from skipgrad.lab.applications import WITH, WITHOUT, Measure, application, contest, over_all, parts
from skipgrad.lab.claim import Setting, Values
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import fit

DEPTH, BATCH, STEPS, QUICK_STEPS, RATES, SHOWN = 4, 16, 240, 100, (3e-3, 1e-3), 16
NATS = Measure("loss, nats a byte", higher=False, learned=2.9, gap=0.2)


class Chars(nn.Module):
    """A Pre-LN character transformer, ids (N, T) → logits (N, T, vocab); without ``skips`` a branch replaces x."""

    def __init__(
        self, skips: bool = True, depth: int = DEPTH, vocab: int = 256, context: int = 64, d_model: int = 64
    ) -> None:
        super().__init__()
        self.skips = skips
        self.token, self.position = nn.Embedding(vocab, d_model), nn.Embedding(context, d_model)
        made = [f for _ in range(depth) for f in (CausalSelfAttention(d_model, 4), FeedForward(d_model))]
        self.branches = nn.ModuleList(nn.Sequential(nn.LayerNorm(d_model), f) for f in made)
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        for branch in self.branches:
            x = x + branch(x) if self.skips else branch(x)
        return self.head(self.norm(x))


def one_seed(setting: Setting) -> Values:
    """Both nets on the same windows of text, scored on its end."""
    work = {
        name: parts(fit(f"{__name__}:Chars", {"skips": skips}, "text", batch_size=BATCH), 0.01)
        for name, skips in ((WITH, True), (WITHOUT, False))
    }
    recipe = Recipe(QUICK_STEPS if setting.quick else STEPS, BATCH, "adamw", clip=1.0, warmup=0.05, schedule="cosine")
    score = over_all(work[WITH][1], nats, SHOWN)
    return contest({name: t for name, (t, _) in work.items()}, recipe, RATES, NATS, score, setting)


def nats(logits: Tensor, target: Tensor) -> Tensor:
    """The loss of each byte."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")


CLAIM = application(
    NATS,
    id="APP-LANGUAGE",
    title="Language model: a transformer with its skips and without",
    statement="A transformer learns to guess the next byte; the same one whose branches replace x hardly learns.",
    anchor="without skips the output of attention falls to rank one, doubly exponentially with depth (Dong et "
    "al. 2021)",
    setting=f"Pre-LN, {DEPTH} layers, 64 features, {STEPS} steps of {BATCH} windows of 64 bytes of Python's "
    "standard library, "
    f"AdamW at the better of {RATES}, cosine, clipped at 1; scored on {SHOWN * BATCH} windows of the last per cent",
    one_seed=one_seed,
    duration="one minute",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=205)
