"""Answers as tables and a few sentences: skips, cures, claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import indent
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from skipgrad.core.graph import Other, Skip, SkipGraph
from skipgrad.core.run import Cure
from skipgrad.core.units import number, ratio, seconds

if TYPE_CHECKING:
    from skipgrad.lab import Claim, Verdict

MERGES = {"add": "add", "concat": "concat", "gate": "gate", "index": "index merge"}
NAMES_SHOWN = 3


def summary(graph: SkipGraph) -> str:
    """The graph in one sentence.

    >>> summary(SkipGraph(()))
    'no skip connections among 0 weighted layers'
    """
    if not graph.skips:
        return f"no skip connections among {_many(len(graph.layers), 'weighted layer')}"
    sorts = Counter((s.shortcut, s.kind) for s in graph.skips)
    parts = [_many(n, f"{shortcut} {MERGES[kind]}") for (shortcut, kind), n in sorts.most_common()]
    text = f"{_many(len(graph.skips), 'skip connection')}: {', '.join(parts)}"
    long = graph.count(long=True)
    if long:
        text += f"; {long} long"
    return f"{text}; longest span {max(s.span for s in graph.skips)}"


def show_graph(graph: SkipGraph, console: Console, model: str) -> None:
    """Prints all there is to say about a graph: the skips, what is none, what was not understood."""
    console.print(Text(f"{model}: {summary(graph)}", style="bold"))
    if graph.inputs:
        console.print(Text(f"traced with {graph.inputs} ({graph.how} tensors)", style="dim"))
    if graph.skips:
        console.print(skip_table(graph.skips))
    for line in remarks(graph):
        console.print(Text(line))


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
        shapes = _shape(s.fork_shape)
        if s.merge_shape != s.fork_shape:
            shapes += f" → {_shape(s.merge_shape)}"
        # Text, not str: a module path may hold what rich reads as markup ("blocks[0]").
        cells = (s.name, s.kind, s.shortcut, "long" if s.long else "short", str(s.span), str(s.fan_in), shapes)
        table.add_row(*map(Text, cells))
    return table


def show_cures(cures: Sequence[Cure], console: Console) -> None:
    """Prints raced remedies, the best first, and the lines that apply the winner."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("remedy", "verdict"):
        table.add_column(name, no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("why")
    for c in cures:
        table.add_row(*map(Text, (c.remedy, c.state, ratio(c.steps_ratio), ratio(c.seconds_ratio), c.reason)))
    console.print(table)
    console.print(
        Text("steps and seconds to the patient's best loss, relative to the patient; below 1 is faster", "dim")
    )
    if cures and cures[0].state == "helped" and cures[0].lines:
        console.print(Text(f"\nto apply {cures[0].remedy}:\n{indent(cures[0].lines, '    ')}"))


def show_claims(claims: Sequence[Claim], console: Console) -> None:
    """Prints what the lab can test."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("claim", "what it says", "takes"):
        table.add_column(name, no_wrap=name == "claim")
    for c in claims:
        table.add_row(*map(Text, (c.id, f"{c.title}: {c.statement}", c.duration)))
    console.print(table)


def show_verdict(claim: Claim, verdict: Verdict, console: Console) -> None:
    """Prints what became of one claim, with the figures of every seed."""
    console.print(Text.assemble((f"{claim.id} {claim.title}: ", "bold"), verdict.state))
    for name in ("statement", "anchor", "criterion"):
        console.print(_indented(f"{name}: {getattr(claim, name)}"))
    console.print(_indented(f"measured: {verdict.reason}"))
    console.print(
        _indented(f"setting: {verdict.setting}{', quick' if verdict.quick else ''}; {seconds(verdict.seconds)}")
    )
    answers = {True: "holds", False: "does not hold", None: "cannot tell"}
    for figure in verdict.figures:
        values = ", ".join(f"{name} {number(value)}" for name, value in figure.values.items())
        console.print(_indented(f"seed {figure.seed} {answers[figure.holds]}: {values}"))


def remarks(graph: SkipGraph) -> list[str]:
    """What follows the table: other merges grouped by reason, suggestions, unknown ops, notes."""
    lines: list[str] = []
    groups: dict[tuple[str, str], list[Other]] = {}
    for other in graph.others:
        groups.setdefault((other.kind, other.reason), []).append(other)
    if groups:
        lines += ["", "merges that are no skips:"]
    for (kind, reason), members in groups.items():
        names = [m.name or "the model itself" for m in members]
        more = f" … ({len(names) - NAMES_SHOWN} more)" if len(names) > NAMES_SHOWN else ""
        lines.append(f"  {len(names)} × {kind}: {reason} – {', '.join(names[:NAMES_SHOWN])}{more}")
    if graph.suggestions:
        lines += ["", f"{_many(len(graph.suggestions), 'place')} where a skip could be added (remedy add-skips)"]
    if graph.unknown:
        lines += ["", "ops without a rule (paths through them count as non-linear and weightless):"]
        lines += [f"  {u.op} × {u.count} in {u.module or 'the model itself'}" for u in graph.unknown]
    if graph.notes:
        lines += ["", "notes:", *(f"  {note}" for note in graph.notes)]
    return lines


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2), expand=False)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
