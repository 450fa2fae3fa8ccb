"""The report in the terminal: the same parts, in under 40 lines at 100 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from report import synthetic
from skipgrad.core import Run
from skipgrad.report import terminal

RUNS = ("plain56", "healthy", "resnet152_sick", "unet", "interrupted", "nothing", "all_nan", "hostile")


def printed(run: Run, width: int = 100, colours: bool = False) -> str:
    out = io.StringIO()
    terminal(run, Console(file=out, width=width, force_terminal=colours, color_system="truecolor" if colours else None))
    return out.getvalue()


@pytest.mark.parametrize(
    "name", ["plain56", "standstill", "resnet152_sick", "unet", "interrupted", "nothing", "all_nan"]
)
def test_text(name: str, snapshot: object) -> None:
    assert printed(getattr(synthetic, name)()) == snapshot


@pytest.mark.parametrize("name", RUNS)
def test_it_is_short_and_ends_with_the_path(name: str) -> None:
    run = getattr(synthetic, name)()
    lines = printed(run).splitlines()
    assert len(lines) < 40
    assert lines[-1].startswith("report ")
    assert str(run.meta.get("report", "not written")) in lines[-1]
    assert all(len(line) <= 100 for line in lines if not line.startswith(("report ", "repeat ")))


def test_what_one_copies_is_never_cut() -> None:
    run = synthetic.plain56()
    path, command = "/very/long" * 30 + "/report.html", "skipgrad check " + "x" * 200
    text = printed(Run({**run.meta, "report": path, "command": command}))
    assert f"report {path}\n" in text
    assert f"repeat {command}\n" in text


def test_no_escape_sequence_or_markup_of_a_name_gets_through() -> None:
    assert "\x1b" not in printed(synthetic.hostile())
    coloured = printed(synthetic.hostile(), colours=True)
    assert "[bold]" in coloured  # shown, not obeyed
    assert "\x1b[31m[bold]" not in coloured


def test_colour_adds_nothing_but_colour() -> None:
    import re

    coloured = re.sub("\x1b\\[[0-9;]*m", "", printed(synthetic.plain56(), colours=True))
    assert coloured == printed(synthetic.plain56())
