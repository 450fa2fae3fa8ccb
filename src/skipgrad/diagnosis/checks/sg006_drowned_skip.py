"""SG006: branches that drown their skip: the gradient no longer travels along the shortcuts."""

from __future__ import annotations

import math

from skipgrad.core import Measurements
from skipgrad.core.units import number, percent
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._series import branch_to_skip, some

# At ‖B‖ = 3 ‖S‖ the shortcut carries 1 / (1 + 3²), a tenth, of the gradient's energy (S and B are nearly orthogonal).
DROWNED = 3.0
# One skip alone counts only from ten on: behind a small embedding the first branch of a healthy Pre-LN net stands at
# 2.5 (ViT) or 3.4 (Llama), and nothing but the embedding lies before it. At ten it carries a hundredth: no skip at all.
LOST = 10.0
# rho = √Σb² over the identity skips. In the first races Pre-LN stood at 0.8–1.5 (healthy), Post-LN at 3.2 and a
# batch-norm ResNet-56, which trains, at 4.1: few nets, and no script repeats these. Above 2 the cure is worth a trial;
# what it brought when it was measured is in benchmarks/results (2026-11-28-cures.txt), and is little.
RESTLESS = 2.0
# At this share of lost skips the whole net is concerned.
MANY = 0.5


def judge(measured: Measurements) -> Judgement:
    """Judges b = ‖B‖ / ‖S‖ of each identity skip, and of all together."""
    skips = [s for s in measured.graph.skips if s.kind == "add" and s.shortcut in ("identity", "scaled")]
    if not skips:
        return not_applicable("the net has no add skips with an identity shortcut")
    every = branch_to_skip(measured)
    b = {s.name: every[s.name] for s in skips if s.name in every}
    if not b:
        return skipped("the gradients of skip and branch were not measured; watch a backward pass")
    plain = [b[s.name] for s in skips if s.shortcut == "identity" and s.name in b]
    rho = math.sqrt(sum(v * v for v in plain))
    drowned = sorted(((v, n) for n, v in b.items() if v > DROWNED), reverse=True)
    lost = sum(v > LOST for v in b.values())
    evidence: dict[str, float | int | str] = {
        "rho": rho,
        "rho_threshold": RESTLESS,
        "largest_branch_to_skip": max(b.values()),
        "threshold": DROWNED,
        "drowned_skips": len(drowned),
        "skips": len(b),
        "rms_branch_to_skip": rho / math.sqrt(len(plain)) if plain else 0.0,
    }
    remedies = ["zero-init", "skip-calibration"]
    if drowned:
        worst = drowned[0][0]
        return found(
            f"In {len(drowned)} of {len(b)} skips ({some(n for _, n in drowned)}) the branch's gradient is up to "
            f"{number(worst)}× the skip's, which leaves the shortcut {percent(1 / (1 + worst * worst))} of the "
            "energy. Start the last layer of each branch at zero, or calibrate the branches to 1/L of their skip.",
            severity="error" if lost >= MANY * len(b) else "warning" if lost or len(drowned) > 1 else "info",
            where=[n for _, n in drowned],
            evidence=evidence,
            remedies=remedies,
        )
    if rho > RESTLESS:
        return found(
            "No single branch drowns its skip, but together they outweigh the skips: rho = √Σ(‖B‖/‖S‖)² = "
            f"{number(rho)} over {len(plain)} identity skips, where {number(RESTLESS)} and less is calm. The net may "
            "train well all the same; starting the last layer of each branch at zero is worth one trial, with a "
            "larger learning rate.",
            severity="info",
            where=[n for _, n in sorted(((v, n) for n, v in b.items()), reverse=True)],
            evidence=evidence,
            remedies=remedies,
        )
    return passed(
        f"the skips carry their share of the gradient: rho = {number(rho)} over {len(plain)} identity skips", evidence
    )


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
    ),
)
