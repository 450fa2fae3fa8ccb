"""SG006: branches that drown their skip: the gradient no longer travels along the shortcuts."""

from __future__ import annotations

import math

from skipgrad.core import Measurements
from skipgrad.core.run import Severity
from skipgrad.core.units import number, percent
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._cost import advice, graded, worth_trying
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._prescribe import mend_branches
from skipgrad.diagnosis._series import branch_to_skip

# At ‖B‖ = 3 ‖S‖ the shortcut carries 1 / (1 + 3²), a tenth, of the gradient's energy (S and B are nearly orthogonal).
DROWNED = 3.0
# One skip alone counts only from ten on: behind a small embedding the first branch of a healthy Pre-LN net stands at
# 2.5 (ViT) or 3.4 (Llama), and nothing but the embedding lies before it. At ten it carries a hundredth: no skip at all.
LOST = 10.0
# rho = √Σb² over the identity skips. In the first races Pre-LN stood at 0.8–1.5 (healthy), Post-LN at 3.2 and a
# batch-norm ResNet-56, which trains, at 4.1: few nets, and no script repeats these. It grows with depth by itself, so
# it
# is told of where a run does not learn, and nowhere else.
RESTLESS = 2.0
# At this share of lost skips the whole net is concerned.
MANY = 0.5


def judge(measured: Measurements) -> Judgement:
    """Judges b = ‖B‖ / ‖S‖ of each identity skip, and of all together where the run does not learn."""
    # A shortcut that somebody scaled (GCNII's .1, a decay) carries less on purpose; SG007 multiplies its factors up.
    skips = [s for s in measured.graph.skips if s.kind == "add" and s.shortcut == "identity"]
    if not skips:
        return not_applicable("the net has no add skips with an identity shortcut")
    every = branch_to_skip(measured)
    b = {s.name: every[s.name] for s in skips if s.name in every}
    if not b:
        return skipped("the gradients of skip and branch were not measured; watch a backward pass")
    rho = math.sqrt(sum(v * v for v in b.values()))
    drowned = sorted(((v, n) for n, v in b.items() if v > DROWNED), reverse=True)
    lost = sum(v > LOST for v in b.values())
    evidence: dict[str, float | int | str] = {
        "rho": rho,
        "rho_threshold": RESTLESS,
        "largest_branch_to_skip": max(b.values()),
        "threshold": DROWNED,
        "drowned_skips": len(drowned),
        "skips": len(b),
        "rms_branch_to_skip": rho / math.sqrt(len(b)),
    }
    cures = worth_trying(measured, "zero-init", "skip-calibration")
    do = advice(measured, mend_branches(measured))
    if drowned:
        worst = drowned[0][0]
        severity: Severity = "error" if lost >= MANY * len(b) else "warning" if lost or len(drowned) > 1 else "info"
        return found(
            f"In {len(drowned)} of {len(b)} skips ({some(n for _, n in drowned)}) the branch's gradient is up to "
            f"{number(worst)}× the skip's, which leaves the shortcut {percent(1 / (1 + worst * worst))} of the "
            f"energy. {do}",
            severity=graded(measured, severity),
            where=[n for _, n in drowned],
            evidence=evidence,
            remedies=cures,
        )
    told = f"rho = √Σ(‖B‖/‖S‖)² = {number(rho)} over {len(b)} identity skips"
    if rho > RESTLESS and learning(measured).sick:
        return found(
            f"No single branch drowns its skip, but together they outweigh the skips: {told}, where "
            f"{number(RESTLESS)} and "
            f"less is calm, and the run does not learn. {do}",
            severity="info",
            where=[n for _, n in sorted(((v, n) for n, v in b.items()), reverse=True)],
            evidence=evidence,
            remedies=cures,
        )
    return passed(f"no branch drowns its skip: the largest ‖B‖/‖S‖ is {number(max(b.values()))}, {told}", evidence)


CHECK = CHECKS.register(
    "SG006",
    Check(
        "SG006",
        "Branches that drown their skip",
        "warning",
        "The gradient that comes back through the branches outweighs the one that comes through the shortcuts, "
        "singly or all together. The skips then no longer shield the first layers from what the branches do to the "
        "gradient, and the net wants warm-up and a small learning rate.",
        judge,
        ("steps", "skips"),
    ),
)
