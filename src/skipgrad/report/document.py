"""The parts of a report, as plain records: what the page and the terminal both draw."""

from __future__ import annotations

from dataclasses import dataclass, field

from skipgrad.core import Run
from skipgrad.core.rank import winner
from skipgrad.report.cards import Card, CureRow, cards, cure_rows
from skipgrad.report.depth import DepthCurves, depth_curves
from skipgrad.report.facts import facts, missing, not_understood
from skipgrad.report.headline import Headline, headline
from skipgrad.report.heat import HeatMap, heat_map
from skipgrad.report.losses import LossCurves, loss_curves
from skipgrad.report.marks import Mark, marks
from skipgrad.report.paths import PathCurves, path_curves
from skipgrad.report.strips import Strips, strips
from skipgrad.report.subjects import subjects
from skipgrad.report.text import clean, short, value
from skipgrad.report.thinned import thinned


@dataclass(frozen=True)
class Parts:
    """A report before it is drawn, in the order of the four questions.

    Attributes:
        title: model and data.
        headline: what is the matter, and did the cure help.
        marks: the state of each check.
        strips: where the gradient goes.
        depth: how it changes with depth.
        heat: how S and B change over the steps; None without measured skips.
        losses: how the loss fell.
        cards: what was found and what to do.
        cures: what each remedy did.
        lines: Python that applies the cure that won; empty when none did.
        winner: its name.
        not_understood: ops, notes, skipped checks.
        facts: versions, seeds and the like.
        command: repeats the run.
        missing: what this run lacks.
        report: where the page is, as the run recorded it.
        thinned: of which steps rows are missing because the run was too long to keep all; empty when none are.
        paths: how long the paths are that the gradient takes; without a sentence when that was not measured.
    """

    title: str
    headline: Headline
    marks: tuple[Mark, ...]
    strips: Strips
    depth: DepthCurves
    heat: HeatMap | None
    losses: LossCurves
    cards: tuple[Card, ...]
    cures: tuple[CureRow, ...]
    lines: str
    winner: str
    not_understood: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    command: str
    missing: tuple[str, ...]
    report: str
    thinned: tuple[str, ...] = ()
    paths: PathCurves = field(default_factory=PathCurves)


def parts(run: Run) -> Parts:
    """The parts of a run's report; a run that ended early has them all too, saying what is missing."""
    who = subjects(run)
    best = winner(run.cures)
    model = short(run.meta.get("model") or (run.graph.model if run.graph else "") or "a model")
    return Parts(
        title=f"{model} on {short(value(run.meta['data']))}" if run.meta.get("data") else model,
        headline=headline(run, who),
        marks=marks(run),
        strips=strips(run, who),
        depth=depth_curves(run, who),
        heat=heat_map(who),
        losses=loss_curves(run),
        cards=cards(run),
        cures=cure_rows(run),
        lines=clean(best.lines) if best else "",
        winner=clean(best.remedy) if best else "",
        not_understood=not_understood(run),
        facts=facts(run),
        command=value(run.meta.get("command", "")),
        missing=missing(run),
        report=value(run.meta.get("report") or ""),
        thinned=thinned(run),
        paths=path_curves(run),
    )
