"""Consoles and progress: answers go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from skipgrad.core.strict import finite

SCHEMA = 1  # of the JSON objects of report, boost and lab; find and check number their own

PIPE_WIDTH = 100  # of the report's text where there is no terminal to ask
ROW_WIDTH = 1000  # of tables in a pipe: one row a line, for grep; nothing is padded to it

# The words of the command under way: main() sets it, so that a run file can say how to repeat it.
words: ContextVar[tuple[str, ...]] = ContextVar("words", default=())

ProgressCallback = Callable[[str, int, int, str], None]


class Answer(Console):
    """A console that leaves it to main() what happens when the reader goes away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def answer_console(*, rows: bool = False) -> Answer:
    """The console of stdout; ``rows`` for a table whose rows must not wrap in a pipe."""
    if sys.stdout.isatty():
        return Answer(highlight=False)
    return Answer(width=ROW_WIDTH if rows else PIPE_WIDTH, highlight=False)


def command_line() -> str:
    """The command under way, as one would paste it into a shell."""
    return shlex.join(("skipgrad", *words.get()))


def print_json(value: dict[str, Any] | str) -> None:
    """One JSON object on stdout, as it is (rich would wrap it)."""
    print(value if isinstance(value, str) else json.dumps(finite(value), indent=2, allow_nan=False))


def say(text: str) -> None:
    """A line for the person, beside the answer."""
    print(f"skipgrad: {text}", file=sys.stderr, flush=True)


def stdout_is_ours() -> contextlib.AbstractContextManager[Any]:
    """Sends what a user's model or data print while they work to stderr; stdout stays for the answer."""
    return contextlib.redirect_stdout(sys.stderr)


@contextlib.contextmanager
def progress() -> Iterator[ProgressCallback]:
    """A callback ``(stage, done, total, note)`` that shows how far a job is, on stderr.

    A bar for each stage in a terminal. Elsewhere (a log, CI) one line as a stage begins and one as it ends, so that
    nobody reads control characters or wonders for a minute whether anything happens.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines()
        return
    # No markup: a note may hold a module's path ("blocks[0]").
    name, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    columns = name, BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), note
    # Progress would catch stdout as well and print it among the bars; stdout is the answer's.
    with Progress(*columns, console=console, redirect_stdout=False) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, note: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None, note="")
            bars.update(tasks[stage], completed=done, total=total or None, note=note)

        yield show


def _lines() -> ProgressCallback:
    said: set[tuple[str, int]] = set()

    def show(stage: str, done: int, total: int, note: str) -> None:
        # The first and the last word of a stage; all of one whose end is not known, as its steps are few and long.
        begins, ends = not any(name == stage for name, _ in said), bool(total) and done >= total
        if (begins or ends or not total) and (stage, done) not in said:
            count = f" {done}/{total}" if ends else "" if total or not done else f" {done}"
            say(f"{stage}{count or ' …'}{f': {note}' if note else ''}")
        said.add((stage, done))

    return show
