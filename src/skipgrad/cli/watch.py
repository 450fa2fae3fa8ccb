"""``skipgrad watch``: a running job in the terminal, from the run file that another process writes; no torch."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Group
from rich.live import Live

from skipgrad.cli._options import flag
from skipgrad.cli._terminal import answer_console
from skipgrad.cli.report import RunPath, run_file

Every = Annotated[float, Parameter(validator=Number(gt=0), help="seconds between two looks")]


def watch(
    run: RunPath, /, *, every: Every = 1.0, once: Annotated[bool, flag("print what there is now and end")] = False
) -> int:
    """Show a RUN live, while another process writes it: loss, gradient, skips."""
    # Deferred: sqlite and json are not to be paid by `skipgrad --help`. See README.md here.
    from skipgrad.report.live import Pace, RunTail, view

    console = answer_console()
    path = run_file(run)
    tail, pace = RunTail(path), Pace()
    frame, took = tail.read(), 0.0

    def shown() -> Group:
        return Group(*view(frame, console.width, console.height, pace(frame)))

    if once or not console.is_terminal:
        console.print(shown())
        return 0
    try:
        with Live(shown(), console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            while frame.state == "running":
                time.sleep(max(every, 4 * took))  # a large file must not keep a core busy
                began = time.perf_counter()
                frame = tail.read()
                took = time.perf_counter() - began
                live.update(shown(), refresh=True)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"the run itself goes on; look again: skipgrad watch {path}")
        raise
    return 0
