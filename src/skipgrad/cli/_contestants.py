"""An honest race as a table, one sentence and the settings to use."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from skipgrad.core.units import number, ratio, seconds

if TYPE_CHECKING:
    from skipgrad.boost import BoostResult

LONGEST = 40  # lines to paste that are shown; a retrofit's are a module of its own


def show_race(result: BoostResult, console: Console) -> None:
    """Prints the answer, the contestants in order, what to mind, and the winner's settings."""
    console.print(Text(result.sentence, "bold"))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("contestant", "verdict"):
        table.add_column(name, no_wrap=True)
    figures = ("seconds", "95 %", "steps", "failed", "final loss", "tuning")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why")
    for c in (result.baseline, *result.contestants):
        if c.state == "refused":
            cells = ["–"] * len(figures)
        else:
            known = result.target.loss is not None
            ends = "–" if c.interval is None else "–".join(number(e) if e is not None else "never" for e in c.interval)
            cells = [
                ratio(c.time_ratio),
                ends,
                ratio(c.steps_ratio),
                f"{c.failures}/{c.runs}",
                number(c.final_loss),
                f"{c.trials} in {seconds(c.seconds)}" if c.trials else "none",
            ]
            if not known:
                cells[:3] = ["–"] * 3
        table.add_row(*map(Text, (c.name, c.state, *cells, c.reason)))
    console.print(table)
    target = result.target
    if target.loss is None:
        console.print(Text("no target, so no times to it", "dim"))
    else:
        at = f"seconds and steps to a smoothed {target.of} loss of {number(target.loss)} ({target.reason})"
        base = result.baseline
        took = f"the baseline took {seconds(base.seconds_to_target)} and {number(base.steps_to_target)} steps"
        console.print(Text(f"{at}, relative to the tuned baseline on the same seed; below 1 is faster; {took}", "dim"))
    for note in result.notes:
        console.print(Text(f"note: {note}"))
    who = result.winner or "the tuned baseline"
    console.print(Text(f"\nsettings of {who}, as a recipe:\n{indent(result.toml, '    ')}"))
    lines = result.lines
    if result.winner and lines.count("\n") <= LONGEST:
        console.print(Text(f"to apply {result.winner}:\n{indent(lines, '    ')}"))
