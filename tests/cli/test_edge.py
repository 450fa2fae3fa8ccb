"""The edge of the program: whatever happens below becomes a message and an exit status, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from skipgrad.core.errors import SkipgradError, UnknownName


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes the room under `skipgrad report` raise."""

    def install(error: BaseException) -> None:
        def read_run(*_: Any) -> None:
            raise error

        monkeypatch.setattr("skipgrad.store.read_run", read_run)

    return install


def test_an_error_one_can_mend(cli: Any, broken: Any, snapshot: SnapshotAssertion) -> None:
    broken(
        UnknownName("looking up the remedy 'zero'", received="no remedy of that name", todo="did you mean zero-init?")
    )
    done = cli("report", "x")
    assert (done.status, done.out) == (1, "")
    assert done.err == snapshot


def test_a_bug(cli: Any, broken: Any, snapshot: SnapshotAssertion) -> None:
    broken(ZeroDivisionError("division by zero\nand more lines"))
    done = cli("report", "x")
    assert (done.status, done.out) == (70, "")
    assert done.err == snapshot


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), SkipgradError("oh")])
def test_the_variable_shows_the_traceback(
    cli: Any, broken: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setenv("SKIPGRAD_TRACEBACK", "1")
    broken(error)
    done = cli("report", "x")
    assert "Traceback (most recent call last)" in done.err
    assert "in read_run" in done.err
    assert "set SKIPGRAD_TRACEBACK" not in done.err


def test_ctrl_c_says_what_was_kept(cli: Any, broken: Any) -> None:
    interrupt = KeyboardInterrupt()
    interrupt.add_note("kept: 17 steps in out/run.sqlite")
    broken(interrupt)
    done = cli("report", "x")
    assert (done.status, done.out) == (130, "")
    assert done.err == "skipgrad: interrupted\nkept: 17 steps in out/run.sqlite\n"


def test_ctrl_c_before_anything_was_measured(cli: Any, broken: Any) -> None:
    broken(KeyboardInterrupt())
    assert cli("report", "x").err == "skipgrad: interrupted\nnothing had been measured yet\n"


def test_warnings_of_libraries_do_not_reach_the_terminal(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_run(*_: Any) -> None:
        warnings.warn("a renamed argument", FutureWarning, stacklevel=1)
        raise SkipgradError("stop here")

    monkeypatch.setattr("skipgrad.store.read_run", read_run)
    done = cli("report", "x")
    assert done.err == "skipgrad: stop here\n"


USAGE = {
    "missing argument": ["find"],
    "missing option": ["check", "skipgrad:plain56"],
    "unknown verb": ["fnd", "skipgrad:plain56"],
    "unknown option": ["find", "skipgrad:plain56", "--jsn"],
    "not a number": ["check", "skipgrad:plain56", "--data", "digits", "--steps", "many"],
    "unknown severity": ["check", "skipgrad:plain56", "--data", "digits", "--fail-on", "eror"],
    "too many words": ["report", "a", "b"],
}


@pytest.mark.parametrize("words", [["--steps", "0"], ["--lr=-1"], ["--warmup", "2"], ["--schedule", "step"]])
@pytest.mark.parametrize("verb", ["check", "boost"])
def test_a_recipe_out_of_range_is_told_before_anything_is_built(cli: Any, verb: str, words: list[str]) -> None:
    done = cli(verb, "skipgrad:plain56", "--data", "digits", *words)
    assert (done.status, done.out) == (1, "")
    assert "where:    " + words[0].strip("-").partition("=")[0] in done.err
    assert "to do:" in done.err


@pytest.mark.parametrize("words", USAGE.values(), ids=USAGE.keys())
def test_usage_errors(cli: Any, words: list[str], snapshot: SnapshotAssertion) -> None:
    done = cli(*words)
    assert (done.status, done.out) == (2, "")
    assert done.err == snapshot


OPTIONS = {
    "model arg": ["find", "skipgrad:plain56", "--model-arg", "depth"],
    "input": ["find", "skipgrad:plain56", "--input", "1,3,a"],
    "no-try and try": ["check", "skipgrad:plain56", "--data", "digits", "--no-try", "--try", "zero-init"],
}


@pytest.mark.parametrize("words", OPTIONS.values(), ids=OPTIONS.keys())
def test_options_of_the_wrong_form(cli: Any, words: list[str], snapshot: SnapshotAssertion) -> None:
    done = cli(*words)
    assert (done.status, done.out) == (1, "")
    assert done.err == snapshot


@pytest.mark.parametrize("verb", ["", "find", "check", "boost", "lab", "report"])
def test_help(cli: Any, verb: str, snapshot: SnapshotAssertion) -> None:
    done = cli(*filter(None, (verb, "--help")))
    assert (done.status, done.err) == (0, "")
    assert done.out == snapshot


def test_no_words_shows_the_help(cli: Any) -> None:
    assert cli() == cli("--help")


def test_version(cli: Any) -> None:
    from skipgrad import __version__

    assert cli("--version").out.strip() == __version__


def test_help_and_usage_errors_import_no_torch() -> None:
    code = (
        "import sys; from skipgrad.cli import main; main(['--help']); main(['check', '--help']); main(['find'])\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'numpy', 'polars', 'altair', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["lab", "--json"], ["lab"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_error(words: list[str]) -> None:
    """`skipgrad … | head -0`."""
    read, write = os.pipe()
    os.close(read)
    # Buffered, as in a shell: what is left in the buffer is what Python would complain about at exit.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "skipgrad", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_code_that_calls_exit_does_not_end_us_silently(cli: Any, broken: Any) -> None:
    broken(SystemExit(0))
    done = cli("report", "x")
    assert (done.status, done.out) == (1, "")
    assert "it ended the program, exit(0)" in done.err
