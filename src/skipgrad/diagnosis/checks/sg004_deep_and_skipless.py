"""SG004: many weighted layers in a row with no skip over them."""

from __future__ import annotations

from skipgrad.core import Measurements, SkipGraph
from skipgrad.core.run import Severity
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed
from skipgrad.diagnosis._cost import advice, worth_trying
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._names import some

# VGG was the deepest plain net of its time, and its 16- and 19-layer forms trained only from the weights of the
# 11-layer one (Simonyan & Zisserman 2015). Shorter stretches are common and do no harm.
LONG_STRETCH = 16
# At this depth plain nets fail outright: on the lab's digits (claim D1) plain-20 ends at 0.2–0.3 % training error, and
# plain-56 at 51–68 %, every residual net at 0.
HOPELESS_STRETCH = 50


def judge(measured: Measurements) -> Judgement:
    """Judges the longest stretch of `SkipGraph.layers` that no skip bridges."""
    graph = measured.graph
    if len(graph.layers) < LONG_STRETCH:
        return not_applicable(f"the net has {len(graph.layers)} weighted layers, fewer than {LONG_STRETCH}")
    start, end = longest_stretch(graph)
    length = end - start
    evidence: dict[str, float | int | str] = {
        "longest_stretch": length,
        "threshold": LONG_STRETCH,
        "layers": len(graph.layers),
        "skips": len(graph.skips),
    }
    if length < LONG_STRETCH:
        return passed(f"at most {length} weighted layers in a row have no skip over them", evidence)
    first, last = graph.layers[start].name, graph.layers[end - 1].name
    evidence |= {"from": first, "to": last, "suggestions": len(graph.suggestions)}
    parallel = sum(o.kind == "parallel" for o in graph.others)
    if parallel:
        evidence["parallel_merges"] = parallel
    bridge = some(f"{s.first} to {s.last}" for s in graph.suggestions)
    return found(
        f"{length} weighted layers in a row, {first} to {last}, have no skip over them. "
        + advice(
            measured,
            f"Bridge them, e.g. {bridge}." if graph.suggestions else "Bridge every two or three of them with a skip.",
        ),
        severity=_severity(measured, length),
        where=[first, last],
        evidence=evidence,
        remedies=worth_trying(measured, "add-skips"),
    )


def _severity(measured: Measurements, length: int) -> Severity:
    """By the graph alone depth is a hint; that the net does not learn, or that its gradient vanishes, makes it the "
    "cause."""
    seen = learning(measured)
    if seen.well:
        return "info"
    hopeless = length >= HOPELESS_STRETCH
    if seen.sick:
        return "error" if hopeless else "warning"
    return "warning" if hopeless else "info"


def longest_stretch(graph: SkipGraph) -> tuple[int, int]:
    """Start and end of the longest run of layers that lie on no skip's branch."""
    bridged = [False] * len(graph.layers)
    for skip in graph.skips:
        for position in range(max(0, skip.start), min(skip.end, len(bridged))):
            bridged[position] = True
    best = (0, 0)
    start = 0
    for position, under in enumerate([*bridged, True]):
        if under:
            if position - start > best[1] - best[0]:
                best = (start, position)
            start = position + 1
    return best


CHECK = CHECKS.register(
    "SG004",
    Check(
        "SG004",
        "Deep and skipless",
        "warning",
        "Many weighted layers follow each other with no skip over them. Every layer multiplies the gradient by its "
        "own Jacobian there, so that past some depth a plain net trains worse than a shallower one, and this shows "
        "in the training error already.",
        judge,
    ),
)
