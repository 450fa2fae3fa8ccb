"""Answers as tables and a few sentences: skips, cures, claims."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from textwrap import indent
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from skipgrad.cli._terminal import ROW_WIDTH
from skipgrad.core.draw.words import ROOT, clean, sentence
from skipgrad.core.graph import Other, Skip, SkipGraph
from skipgrad.core.run import Cure
from skipgrad.core.units import number, ratio, seconds, shapes

if TYPE_CHECKING:
    from skipgrad.lab import Claim, Verdict

NAMES_SHOWN = 3


def show_graph(
    graph: SkipGraph, console: Console, model: str, *, suggest: bool = False, forms: Sequence[str] = ()
) -> None:
    """Prints all there is to say about a graph: the skips, what is none, what was not understood.

    Args:
        graph: what to show.
        console: where to.
        model: what the model is called.
        suggest: list suggestions and unclean shortcuts with their reasons; one line with their numbers when not.
        forms: lines about the forms that were recognised.
    """
    console.print(Text(f"{model}: {sentence(graph)}", style="bold"))
    if graph.inputs:
        console.print(Text(f"traced with {graph.inputs} ({graph.how} tensors)", style="dim"))
    if graph.skips:
        console.print(skip_table(graph.skips))
    for line in forms:
        console.print(Text(line))
    for line in remarks(graph):
        console.print(Text(line))
    if suggest:
        show_suggestions(graph, console)
    elif graph.suggestions or graph.unclean:
        console.print(Text(f"\n{counts(graph)}; --suggest lists them"))


def graph_text(graph: SkipGraph, model: str, *, suggest: bool = False, forms: Sequence[str] = ()) -> str:
    """What `show_graph` prints, as the text a pipe gets."""
    console = Console(file=StringIO(), width=ROW_WIDTH, highlight=False, no_color=True, force_terminal=False)
    show_graph(graph, console, model, suggest=suggest, forms=forms)
    return cast(StringIO, console.file).getvalue()


def counts(graph: SkipGraph) -> str:
    """How many suggestions and unclean shortcuts there are, in one line; empty when there are none."""
    unclean = len({u.skip for u in graph.unclean})
    parts = (
        (len(graph.suggestions), "places where a skip could be added (remedy add-skips)"),
        (unclean, "skips with a shortcut that is not clean"),
    )
    return "; ".join(f"{what}: {n}" for n, what in parts if n)


def show_suggestions(graph: SkipGraph, console: Console) -> None:
    """Prints where a skip could be added, and which shortcuts are not clean, each with the reason."""
    if graph.suggestions:
        console.print(Text("\nwhere a skip could be added (skipgrad boost, remedy add-skips):"))
        table = _table("from the input of", "to the output of", "span", "shortcut", "why")
        for s in graph.suggestions:
            table.add_row(*map(Text, (clean(s.first), clean(s.last), str(s.span), s.shortcut, s.reason)))
        console.print(table)
    else:
        console.print(Text("\nno place where a skip could be added: no run of layers is without one, or none is fit"))
    if graph.unclean:
        console.print(Text("\nshortcuts that are not clean (SG007 tells when that hurts):"))
        table = _table("skip", "what", "why")
        for u in graph.unclean:
            table.add_row(*map(Text, (clean(u.skip), u.why, clean(u.reason))))
        console.print(table)
    elif graph.skips:
        console.print(Text("\nall shortcuts are clean: nothing lies on them that the shapes do not ask for"))


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        right = name == "span"
        table.add_column(name, overflow="fold", no_wrap=right, justify="right" if right else "left")
    return table


def skip_table(skips: tuple[Skip, ...]) -> Table:
    """A row for every skip, in order of execution; long ones are marked in words, not by colour."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("skip", overflow="fold")
    for name in ("kind", "shortcut", "length"):
        table.add_column(name, no_wrap=True)
    table.add_column("span", justify="right", no_wrap=True)
    table.add_column("fan-in", justify="right", no_wrap=True)
    table.add_column("fork → merge", overflow="fold")
    for s in skips:
        moved = shapes(s.fork_shape, s.merge_shape)
        # Text, not str: a module path may hold what rich reads as markup ("blocks[0]").
        cells = (s.name, s.kind, s.shortcut, "long" if s.long else "short", str(s.span), str(s.fan_in), moved)
        table.add_row(*map(Text, cells))
    return table


def show_cures(cures: Sequence[Cure], console: Console) -> None:
    """Prints raced remedies, the best first, and the lines that apply the winner."""
    idle = next((c for c in cures if not c.patient_trains), None)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("remedy", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("steps", "seconds") if idle is None else ("best loss",):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for c in cures:
        figures = (ratio(c.steps_ratio), ratio(c.seconds_ratio)) if idle is None else (number(c.best_loss),)
        table.add_row(*map(Text, (c.remedy, c.state, *figures, c.reason)))
    console.print(table)
    legend = "steps and seconds to the patient's best loss, relative to the patient; below 1 is faster"
    if idle is not None:
        best, first = number(idle.patient_best_loss), number(idle.patient_first_loss)
        legend = (
            f"the patient does not train: {best} at its best, {first} at first; so there is nothing to be faster than"
        )
    console.print(Text(legend, "dim"))
    if cures and cures[0].state == "helped" and cures[0].lines:
        console.print(Text(f"\nto apply {cures[0].remedy}:\n{indent(cures[0].lines, '    ')}"))


def show_claims(claims: Sequence[tuple[Claim, Verdict | None]], console: Console, left_out: Sequence[str] = ()) -> None:
    """Prints what the lab can test, what it last found, and what of other packages it does without."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("claim", "what it says", "last verdict", "takes a seed"):
        table.add_column(name, no_wrap=name == "claim")
    for c, verdict in claims:
        last = "–" if verdict is None else f"{verdict.state}{', quick' if verdict.quick else ''}"
        table.add_row(*map(Text, (c.id, f"{c.title}: {c.statement}", last, c.duration)))
    console.print(table)
    for note in left_out:
        console.print(Text(note))


def show_verdict(claim: Claim, verdict: Verdict, console: Console) -> None:
    """Prints what became of one claim, with the figures of every seed."""
    console.print(Text.assemble((f"{claim.id} {claim.title}: ", "bold"), verdict.state))
    for name in ("statement", "anchor", "criterion"):
        console.print(_indented(f"{name}: {getattr(claim, name)}"))
    console.print(_indented(f"measured: {verdict.reason}"))
    console.print(
        _indented(f"setting: {verdict.setting}{', quick' if verdict.quick else ''}; {seconds(verdict.seconds)}")
    )
    if verdict.effect is not None:
        e = verdict.effect
        console.print(
            _indented(f"effect: {e.name} {number(e.mean)} [{number(e.low)}, {number(e.high)}] (95 % over seeds)")
        )
    if claim.caution:
        console.print(_indented(f"caution: {claim.caution}"))
    answers = {True: "holds", False: "does not hold", None: "" if verdict.model else "cannot tell"}
    for figure in verdict.figures:
        values = ", ".join(f"{name} {number(value)}" for name, value in figure.values.items())
        console.print(_indented(f"seed {figure.seed} {answers[figure.holds]}: {values}"))


def remarks(graph: SkipGraph) -> list[str]:
    """What follows the table: other merges grouped by reason, unknown ops, notes."""
    lines: list[str] = []
    groups: dict[tuple[str, str], list[Other]] = {}
    for other in graph.others:
        groups.setdefault((other.kind, other.reason), []).append(other)
    if groups:
        lines += ["", "merges that are no skips:"]
    for (kind, reason), members in groups.items():
        names = [m.name or ROOT for m in members]
        more = f" … ({len(names) - NAMES_SHOWN} more)" if len(names) > NAMES_SHOWN else ""
        lines.append(f"  {len(names)} × {kind}: {reason} – {', '.join(names[:NAMES_SHOWN])}{more}")
    if graph.unknown:
        lines += ["", "ops without a rule (paths through them count as non-linear and weightless):"]
        lines += [f"  {u.op} × {u.count} in {u.module or ROOT}" for u in graph.unknown]
    if graph.notes:
        lines += ["", "notes:", *(f"  {note}" for note in graph.notes)]
    return lines


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2), expand=False)
