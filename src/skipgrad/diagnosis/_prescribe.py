"""Which remedies this net can take, by its graph: what would be refused is not prescribed, nor put into words."""

from __future__ import annotations

from collections.abc import Iterable

from skipgrad.core import Measurements
from skipgrad.core.branches import branch_ends, stops_factor, stops_zero

# Of each: whether its plan finds something to do. Remedies that are not here (of other packages) are taken to know.
_KNOWN = ("zero-init", "skip-calibration", "add-skips", "gradient-normalization", "gradient-scaling")


def possible(measured: Measurements, remedies: Iterable[str]) -> tuple[str, ...]:
    """Those of the remedies that would find something to do, in their order."""
    wanted = tuple(dict.fromkeys(remedies))
    return tuple(name for name in wanted if name not in _KNOWN or _fits(measured, name))


def _fits(measured: Measurements, name: str) -> bool:
    graph = measured.graph
    if name == "zero-init":
        return bool(branch_ends(graph, stops_zero).skips)
    if name == "skip-calibration":
        ends = branch_ends(graph, stops_factor).skips
        seen = {r.skip for r in measured.skips if r.finite and r.skip_norm > 0 and r.branch_norm > 0}
        return any(set(skips) <= seen or not measured.skips for skips in ends.values())
    if name == "add-skips":
        return bool(graph.suggestions)
    return any(branch for skip in graph.skips for branch in skip.branches)


def mend_branches(measured: Measurements) -> str:
    """What to do to branches that are too strong, in words: the remedies that fit, or what is left to do by hand."""
    fit = possible(measured, ("zero-init", "skip-calibration"))
    if fit == ("zero-init", "skip-calibration"):
        return (
            "Start the last layer of each branch at zero (zero-init), or calibrate the branches to 1/L of their skip."
        )
    if fit == ("zero-init",):
        return "Start the last layer of each branch at zero (zero-init)."
    if fit:
        return "Calibrate the branches to 1/L of their skip (skip-calibration)."
    return (
        "None of skipgrad's remedies can edit these branches (their last layer cannot be zeroed or scaled): put a "
        "norm at "
        "the head of each branch, or multiply what it adds by a small factor."
    )
