"""SG008: long skips nested as in a U-Net, whose gradients or activations are far apart in size."""

from __future__ import annotations

from skipgrad.core import Measurements
from skipgrad.core.run import Severity
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._series import deepest_nest, medians, share

# ScaleLong's bound on the hidden features grows with Σκ² over the nested long skips: with a single one there is nothing
# to balance (Huang et al. 2023).
FEWEST = 2
# Stock U-Nets that train well stand at 4 to 140 (segmentation_models_pytorch, MONAI, diffusers; benchmarks/clinic):
# outer
# levels have more positions, and their gradient is larger by itself. Above 200 it is more than that.
UNEVEN = 200.0


def judge(measured: Measurements) -> Judgement:
    """Judges the deepest nest of long skips; gradients and activations of the outermost against the innermost."""
    nest = deepest_nest([s for s in measured.graph.skips if s.long and s.kind in ("add", "concat")])
    if len(nest) < FEWEST:
        return not_applicable("the net has no long skips nested in each other, as a U-Net has")
    gradient = medians(measured.skips, lambda r: r.skip, lambda r: r.skip_norm)
    stream = medians(measured.skips, lambda r: r.skip, lambda r: r.x_rms)
    known = [s for s in nest if s.name in gradient]
    if len(known) < FEWEST:
        return skipped("the gradients along the long skips were not measured; watch a backward pass")
    outer, inner = known[0].name, known[-1].name
    bare = [s for s in nest if s.shortcut in ("identity", "slice", "pool", "resample")]
    uneven = share(gradient[outer], gradient[inner])
    worst = max(uneven, share(1.0, uneven))
    evidence: dict[str, float | int | str] = {
        "nested_long_skips": len(nest),
        "unscaled": len(bare),
        "threshold": UNEVEN,
        "outer_to_inner_gradient": uneven,
    }
    grown = 1.0
    if outer in stream and inner in stream:
        evidence["inner_to_outer_rms"] = ratio = share(stream[inner], stream[outer])
        grown = max(ratio, share(1.0, ratio))
    told = f"the outermost of {len(nest)} nested long skips carries {number(uneven)}× the gradient of the innermost"
    if max(worst, grown) <= UNEVEN:
        return passed(f"{told}; up to {number(UNEVEN)}× is what U-Nets stand at that train well", evidence)
    seen = learning(measured)
    what = (
        told
        if worst >= grown
        else f"x at the innermost of {len(nest)} nested long skips is {number(grown)}× apart in size from x at the "
        "outermost"
    )
    do = (
        "Multiply the i-th shortcut, counted from the outermost, by κ^(i−1) with κ between .5 and .95, or each by "
        "1/√2 "
        f"(ScaleLong): {some(s.name for s in bare)}. Measure again: no remedy of skipgrad's does it, and it does "
        "not always help."
        if len(bare) >= FEWEST
        else "The shortcuts are scaled already, so scaling is no cure: put a norm into the inner blocks."
    )
    severity: Severity = (
        "warning" if seen.sick or (seen.state in ("none", "too short") and worst > UNEVEN**2) else "info"
    )
    return found(
        f"{what[0].upper()}{what[1:]}: one learning rate does not suit both. {do}",
        severity=severity,
        where=[s.name for s in nest],
        evidence=evidence,
    )


CHECK = CHECKS.register(
    "SG008",
    Check(
        "SG008",
        "Uneven long skips",
        "info",
        "Long skips nested in each other, as in a U-Net, carry gradients or activations of very different size, far "
        "beyond "
        "what nets of the kind have that train well. Outer and inner levels then want different learning rates, and "
        "the "
        "inner ones may not learn at all.",
        judge,
        ("steps",),
    ),
)
