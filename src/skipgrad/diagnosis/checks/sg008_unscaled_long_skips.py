"""SG008: long skips nested as in a U-Net, with no scale on their shortcuts."""

from __future__ import annotations

from skipgrad.core import Measurements, Skip
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed
from skipgrad.diagnosis._series import medians, share, some

# ScaleLong's bound on the hidden features grows with Σκ² over the nested long skips: with a single one there is nothing
# to balance (Huang et al. 2023).
FEWEST = 2
# A gradient (or an activation) ten times larger at the outermost skip than at the innermost: the two ends of the U
# cannot share a learning rate well.
UNEVEN = 10.0

_UNSCALED = ("identity", "slice", "pool", "resample")


def judge(measured: Measurements) -> Judgement:
    """Judges the deepest nest of long skips; gradients and activations of the outermost against the innermost."""
    nest = deepest_nest([s for s in measured.graph.skips if s.long and s.kind in ("add", "concat")])
    if len(nest) < FEWEST:
        return not_applicable("the net has no long skips nested in each other, as a U-Net has")
    bare = [s for s in nest if s.shortcut in _UNSCALED]
    evidence: dict[str, float | int | str] = {
        "nested_long_skips": len(nest),
        "unscaled": len(bare),
        "threshold": FEWEST,
        "uneven_threshold": UNEVEN,
    }
    if len(bare) < FEWEST:
        return passed("all nested long skips but one at most have a scale or a weight on their shortcut", evidence)
    outer, inner = bare[0].name, bare[-1].name
    gradient = medians(measured.skips, lambda r: r.skip, lambda r: r.skip_norm)
    stream = medians(measured.skips, lambda r: r.skip, lambda r: r.x_rms)
    said, worst = "", 1.0
    if outer in gradient and inner in gradient:
        uneven = share(gradient[outer], gradient[inner])
        evidence["outer_to_inner_gradient"] = uneven
        worst = max(worst, uneven, share(1.0, uneven))
        said = f" The outermost shortcut carries {number(uneven)}× the gradient of the innermost."
    if outer in stream and inner in stream:
        growth = share(stream[inner], stream[outer])
        evidence["inner_to_outer_rms"] = growth
        worst = max(worst, growth, share(1.0, growth))
    return found(
        f"{len(bare)} long skips are nested without a scale on their shortcuts.{said} Multiply the i-th shortcut, "
        "counted from the outermost, by κ^(i−1) with κ between .5 and .95, or each by 1/√2 (ScaleLong): "
        f"{some(s.name for s in bare)}.",
        severity="warning" if worst > UNEVEN else "info",
        where=[s.name for s in bare],
        evidence=evidence,
    )


def deepest_nest(skips: list[Skip]) -> list[Skip]:
    """The longest chain of skips each of which lies strictly inside the one before, outermost first.

    Strictly on both sides: DenseNet's skips share their start, a ResNet's follow each other; only a U nests.
    """
    inward = sorted(skips, key=lambda s: (s.start, -s.end))
    best: list[list[Skip]] = []
    for position, s in enumerate(inward):
        around = [best[i] for i, o in enumerate(inward[:position]) if o.start < s.start and s.end < o.end]
        best.append([*max(around, key=len, default=[]), s])
    return max(best, key=len, default=[])


CHECK = CHECKS.register(
    "SG008",
    Check(
        "SG008",
        "Unscaled long skips",
        "info",
        "Long skips nested in each other, as in a U-Net, all carry their x at full size. The more of them, the "
        "larger the hidden features and gradients can swing; scaling the shortcuts steadies them and has trained "
        "diffusion U-Nets about 1.5 times faster.",
        judge,
    ),
)
