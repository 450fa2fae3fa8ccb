"""What a tracker of named figures is given of a step."""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.core.draw.words import ROOT, clean
from skipgrad.core.run import LayerRow, LossPoint, SkipRow

# What is measured, and not merely says of what: one chart each, and in it a line for every skip or layer.
SKIP_FIGURES = (
    "skip_norm", "branch_norm", "total_norm", "out_norm", "cosine", "gain", "x_rms", "branch_rms", "residual", "finite",
)  # fmt: skip
LAYER_FIGURES = (
    "out_grad_norm", "weight_norm", "weight_grad_norm", "update_norm", "stalled", "zero_grad", "finite",
)  # fmt: skip


def scalars(skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]) -> dict[str, float]:
    """The figures of one step by name: ``skip.skip_norm/layer1.0``, ``layer.update_norm/fc``, ``loss``, ``seconds``.

    A tracker has one figure a name and step: of several backwards of one step (gradient accumulation) the last counts.
    What was not measured has no name.
    """
    out: dict[str, float | None] = {}
    for kind, names, rows in (
        ("skip", SKIP_FIGURES, [(r.skip, r) for r in skips]),
        ("layer", LAYER_FIGURES, [(r.layer, r) for r in layers]),
    ):
        for owner, row in rows:
            label = clean(owner) or ROOT
            out |= {f"{kind}.{name}/{label}": getattr(row, name) for name in names}
    for point in losses:
        out |= {"loss": point.loss, "seconds": point.seconds}
    return {name: float(value) for name, value in out.items() if value is not None}
