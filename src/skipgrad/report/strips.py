"""Where the gradient goes: the strip of each measured net, at each step of the slider."""

from __future__ import annotations

from dataclasses import dataclass

from skipgrad.core import Layer, Run, SkipGraph
from skipgrad.report.fold import Fold
from skipgrad.report.marks import severities
from skipgrad.report.subjects import Subject, skip_norms
from skipgrad.report.text import finite, sample

MOST_STEPS = 40
# Figures embedded for the slider, over all steps; about 7 bytes each.
MOST_FIGURES = 120_000


@dataclass(frozen=True)
class Strip:
    """One net, from input to output.

    Attributes:
        who: ``"patient"`` or ``"cured by …"``.
        graph: its skips and layers, as they are drawn: those of a large net in groups.
        layers: how many layers it has.
        skips: how many skips it has.
        folded: what is drawn in groups, one sentence; empty when nothing is.
        severity: gravest severity and codes of the findings that name a skip or layer.
        skip_norms: per step of the slider, ‖S‖ of each skip; None where not measured or no number.
        branch_norms: the same of ‖B‖.
        gradients: per step of the slider, ‖dL/dz‖ of each layer.
    """

    who: str
    graph: SkipGraph
    layers: int
    skips: int
    folded: str
    severity: dict[str, tuple[str, tuple[str, ...]]]
    skip_norms: tuple[tuple[float | None, ...], ...]
    branch_norms: tuple[tuple[float | None, ...], ...]
    gradients: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Strips:
    """The strips and the slider they share.

    Attributes:
        steps: steps of the slider.
        measured: how many steps were measured; more than ``steps`` when some were left out.
        strips: the patient's, and the cured net's.
    """

    steps: tuple[int, ...]
    measured: int
    strips: tuple[Strip, ...]


def strips(run: Run, who: tuple[Subject, ...]) -> Strips:
    """The strips of the nets of a run; none when neither graph nor rows are there."""
    shown = [(s, _with_layers(s)) for s in who]
    shown = [(s, graph, Fold.of(graph)) for s, graph in shown if graph.layers]
    steps: list[int] = next((s.steps for s in who if s.steps), [])
    per_step = sum(2 * len(fold.skips) + len(fold.layers) for _, _, fold in shown) or 1
    chosen = sample(steps, max(2, min(MOST_STEPS, MOST_FIGURES // per_step)))
    named = severities(run)
    # Findings are the patient's: a layer of the same name in the cured net is not accused of them.
    return Strips(
        tuple(chosen),
        len(steps),
        tuple(_strip(s, graph, fold, chosen, named if s is who[0] else {}) for s, graph, fold in shown),
    )


def _strip(
    subject: Subject, graph: SkipGraph, fold: Fold, steps: list[int], named: dict[str, tuple[str, tuple[str, ...]]]
) -> Strip:
    own = subject.steps
    nearest = {min(own, key=lambda s: abs(s - wanted)) for wanted in steps} if own else set()
    norms = skip_norms(subject, nearest)
    by_name = {(r.step, r.layer): r.out_grad_norm for r in subject.layers if r.step in nearest}
    skips, branches, gradients = [], [], []
    for wanted in steps:
        step = min(own, key=lambda s: abs(s - wanted)) if own else wanted
        pairs = [norms.get((step, s.name), (None, None)) for s in graph.skips]
        skips.append(fold.together([s if finite(s) else None for s, _ in pairs]))
        branches.append(fold.together([b if finite(b) else None for _, b in pairs]))
        row = (by_name.get((step, la.name), by_name.get((step, la.name.split("#")[0]))) for la in graph.layers)
        gradients.append(fold.averaged([g if finite(g) else None for g in row]))
    return Strip(
        subject.who,
        fold.graph,
        len(graph.layers),
        len(graph.skips),
        fold.sentence(),
        fold.named(graph, named),
        tuple(skips),
        tuple(branches),
        tuple(gradients),
    )


def _with_layers(subject: Subject) -> SkipGraph:
    """The graph; from the rows when the run ended before one was written."""
    if subject.graph.layers or not subject.layers:
        return subject.graph
    names = {r.layer: r.depth for r in subject.layers}
    layers = tuple(Layer(n, "layer", (), n.split(".")[0]) for n in sorted(names, key=lambda n: names[n]))
    return SkipGraph((), layers=layers)
