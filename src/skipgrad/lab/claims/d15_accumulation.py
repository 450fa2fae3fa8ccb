"""D15: accumulating gradients over micro-batches is a large batch without its memory – but not with batch norm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.claims.d14_checkpointing import Meter
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import Workload, resolve_model
from skipgrad.models.workload import Batch

NET, WIDTH, BATCH, PARTS = "skipgrad:resnet20", 8, 64, 8
EQUAL, APART, LESS = 1e-6, 1e-2, 0.25
PEAK = "peak memory, group norm, share of the whole batch's"


def gradient(model: nn.Module, x: Tensor, y: Tensor, parts: int) -> tuple[Tensor, int]:
    """The gradient of the mean loss, gathered over micro-batches, and the peak of saved bytes."""
    model.zero_grad()
    meter = Meter()
    with torch.autograd.graph.saved_tensors_hooks(meter.pack, meter.unpack):
        for some, targets in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (F.cross_entropy(model(some), targets) * len(some) / len(x)).backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(grads).clone(), meter.peak


def one_seed(setting: Setting) -> Values:
    """A net with group norm and one with batch norm, in one batch and in parts."""
    values: Values = {}
    for norm in ("group", "batch"):
        setting.say(f"{norm} norm")
        with kept_random(torch.device("cpu")):
            seed_all(setting.seed)
            model = resolve_model(NET, {"norm": norm, "width": WIDTH}).build().double().train()
            x, y = torch.randn(BATCH, 1, 16, 16, dtype=torch.float64), torch.randint(10, (BATCH,))
        whole, most = gradient(model, x, y, 1)
        parts, least = gradient(model, x, y, PARTS)
        values[f"relative difference, {norm} norm"] = float((parts - whole).norm() / whole.norm())
        values[f"peak memory, {norm} norm, share of the whole batch's"] = least / most
    return values


def judge(values: Values) -> bool:
    """Equal where samples do not see each other, and not where they do; less memory in both."""
    equal = values["relative difference, group norm"] <= EQUAL
    apart = values["relative difference, batch norm"] >= APART
    return equal and apart and values[PEAK] <= LESS


def sentence(figures: Sequence[Figure]) -> str:
    """The differences and the memory."""
    return (
        f"Over {PARTS} micro-batches the gradient is that of the whole batch to "
        f"{number(middle(figures, 'relative difference, group norm'))} with group norm and off by "
        f"{number(100 * middle(figures, 'relative difference, batch norm'))} % with batch norm, at "
        f"{number(100 * middle(figures, PEAK))} % of its memory."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """A user's net: the gradient of one batch, whole and in four parts weighted by their size."""
    with kept_random(torch.device("cpu")):
        seed_all(setting.seed)
        model = workload.build()
    batch = next(workload.batches(setting.seed))
    grads = []
    for count in (1, 4):
        model.zero_grad()
        seed_all(setting.seed)
        for part in _parts(batch, count):
            (workload.loss(model(*part.args, **part.kwargs), part) * part.size / batch.size).backward()
        grads.append(torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]))
    return {"relative difference": float((grads[1] - grads[0]).norm() / grads[0].norm())}


def _parts(batch: Batch, count: int) -> Iterator[Batch]:
    def cut(value: Any, i: int) -> Any:
        if isinstance(value, Tensor) and value.dim() and value.shape[0] == batch.size:
            return value.chunk(count)[i]
        if isinstance(value, tuple | list):
            return type(value)(cut(v, i) for v in value)
        if isinstance(value, dict):
            return {k: cut(v, i) for k, v in value.items()}
        return value

    for i in range(count):
        args = cut(batch.args, i)
        first = next(t for t in [*args, *batch.kwargs.values()] if isinstance(t, Tensor))
        yield replace(
            batch, args=args, kwargs=cut(batch.kwargs, i), target=cut(batch.target, i), size=first.shape[0]
        )  # fmt: skip


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """The difference."""
    off = middle(figures, "relative difference")
    why = " (something in it looks at the whole batch: batch norm, dropout)" if off > EQUAL else ""
    return f"In four micro-batches its gradient differs from the whole batch's by {number(off)}{why}."


CLAIM = Claim(
    id="D15",
    title="Accumulation simulates a large batch",
    statement="Summing gradients over micro-batches gives the large batch's gradient at a part of its memory, "
    "where samples "
    "do not see each other.",
    anchor="algebra; batch norm is the exception (Ioffe & Szegedy 2015)",
    criterion=f"relative difference ≤ {EQUAL:g} with group norm, ≥ {APART:g} with batch norm; peak of saved bytes ≤ "
    f"{LESS:g} of the whole batch's",
    refutes="a difference without batch norm, or none with it",
    setting=f"ResNet-20 of width {WIDTH} as drawn, {BATCH} random images in {PARTS} parts, float64",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        ["relative difference, group norm", "relative difference, batch norm"],
        "relative difference",
        log_y=True,
        bound=EQUAL,
    ),
    effect="relative difference, batch norm",
    caution="With batch norm it is another gradient: each micro-batch is normalised by itself.",
    topic="memory",
    duration="3 s",
    on_model=on_model,
    on_model_sentence=on_model_sentence,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=115)
