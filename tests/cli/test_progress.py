"""Progress: bars in a terminal, lines in a log, and never anything on stdout."""

from __future__ import annotations

import pytest

from skipgrad.cli._terminal import command_line, progress, stdout_is_ours, words


def test_a_log_gets_a_line_as_a_stage_begins_and_one_as_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as show:
        for step in range(4):
            show("measuring", step, 3, "loss 2.3" if step else "")
        show("measuring", 3, 3, "again")
        show("diagnosing", 0, 0, "")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["skipgrad: measuring …", "skipgrad: measuring 3/3: loss 2.3", "skipgrad: diagnosing …"]


def test_a_log_gets_every_part_of_a_stage_whose_end_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as show:
        for trial in (1, 2, 2):
            show("racing", trial, 0, f"trial {trial}")
    assert capsys.readouterr().err.splitlines() == ["skipgrad: racing 1: trial 1", "skipgrad: racing 2: trial 2"]


def test_a_terminal_gets_bars(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich: treat as a terminal
    with progress() as show:
        show("measuring", 1, 3, "[loss] 2.3")
        show("measuring", 3, 3, "[loss] 0.3")
    out, err = capsys.readouterr()
    assert out == ""
    assert "measuring" in err
    assert "3/3" in err
    assert "[loss] 0.3" in err


def test_what_a_model_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with stdout_is_ours():
        print("built!")
    assert capsys.readouterr() == ("", "built!\n")


def test_the_command_can_be_pasted() -> None:
    before = words.set(("check", "my net.py:make", "--data", "digits"))
    assert command_line() == "skipgrad check 'my net.py:make' --data digits"
    words.reset(before)
