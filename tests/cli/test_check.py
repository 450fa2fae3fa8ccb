"""`skipgrad check`: options reach the library, its answer reaches the terminal.

The job itself is tested in tests/check.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skipgrad.core import Recipe
from skipgrad.core.run import Finding, Run

FINDINGS = (
    Finding("SG001", "vanishing", "warning", "found"),
    Finding("SG002", "exploding", "error", "passed"),
    Finding("SG004", "deep and skipless", "info", "found"),
)


@dataclass(frozen=True)
class FakeResult:
    run: Run

    def to_dict(self) -> dict[str, Any]:
        return {"schema": 1, "findings": [f.code for f in self.run.findings]}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces the job by one that notes its options, and the report by one that prints a line."""
    seen: list[Any] = []

    def check(options: Any, progress: Any = None) -> FakeResult:
        seen.append(options)
        print("a model that talks")
        progress("measuring", 0, 2, "")
        progress("measuring", 2, 2, "loss 0.1")
        return FakeResult(Run({"model": options.model}, findings=FINDINGS))

    monkeypatch.setattr("skipgrad.check.check", check)
    monkeypatch.setattr(
        "skipgrad.report.terminal", lambda run, console: console.print(f"report of {run.meta['model']}")
    )
    return seen


def test_defaults(cli: Any, calls: list[Any]) -> None:
    from skipgrad.check import CheckOptions

    assert cli("check", "skipgrad:plain56", "--data", "digits").status == 0
    command = "skipgrad check skipgrad:plain56 --data digits"
    assert calls == [
        CheckOptions(model="skipgrad:plain56", model_args={}, data="digits", command=command, threads="auto")
    ]


def test_every_option_arrives(cli: Any, calls: list[Any], tmp_path: Path) -> None:
    text = (
        "check a:b --data c:d --steps 7 --batch-size 3 --optimizer adamw --lr 0.1 --seed 5 --device cuda --precision "
        f"bfloat16 --compile --threads 2 --out {tmp_path} --try zero-init --try add-skips --model-arg depth=8 "
        "--model-arg norm=none"
    )
    assert cli(*text.split()).status == 0
    (options,) = calls
    assert (options.model, options.data) == ("a:b", "c:d")
    assert options.model_args == {"depth": 8, "norm": "none"}
    assert options.recipe == Recipe(7, 3, "adamw", 0.1, 5, "cuda", "bfloat16", True)
    assert options.threads == "2"
    assert Path(options.out) == tmp_path
    assert (options.attempt, options.remedies) == (True, ("zero-init", "add-skips"))
    assert options.command == f"skipgrad {text}"


def test_no_try(cli: Any, calls: list[Any]) -> None:
    cli("check", "a:b", "--data", "c:d", "--no-try")
    assert (calls[0].attempt, calls[0].remedies) == (False, ())


def test_answer_on_stdout_and_the_rest_on_stderr(cli: Any, calls: list[Any]) -> None:
    done = cli("check", "a:b", "--data", "c:d")
    assert done.out == "report of a:b\n"
    assert done.err.splitlines() == [
        "a model that talks",
        "skipgrad: measuring …",
        "skipgrad: measuring 2/2: loss 0.1",
    ]


def test_json_is_one_object_and_nothing_else(cli: Any, calls: list[Any]) -> None:
    done = cli("check", "a:b", "--data", "c:d", "--json")
    assert json.loads(done.out) == {"schema": 1, "findings": ["SG001", "SG002", "SG004"]}


@pytest.mark.parametrize(("severity", "status"), [("info", 3), ("warning", 3), ("error", 0)])
def test_fail_on_counts_only_what_was_found(cli: Any, calls: list[Any], severity: str, status: int) -> None:
    done = cli("check", "a:b", "--data", "c:d", "--fail-on", severity, "--json")
    assert done.status == status
    assert json.loads(done.out)["schema"] == 1
    told = [line for line in done.err.splitlines() if "--fail-on" in line]
    expected = {
        "info": ["skipgrad: --fail-on info: SG001 (warning), SG004 (info)"],
        "warning": ["skipgrad: --fail-on warning: SG001 (warning)"],
        "error": [],
    }
    assert told == expected[severity]


def test_explain_prints_the_short_form_beside_this_runs_figures(cli: Any, calls: list[Any]) -> None:
    done = cli("check", "a:b", "--data", "c:d", "--explain", "SG001", "--explain", "SG006")
    assert done.status == 0
    assert "report of a:b" in done.out
    assert "SG001 · Vanishing gradient" in done.out
    assert "In this run: found, warning." in done.out
    assert "SG006 · Branches that drown their skip" in done.out
    assert "not diagnosed" in done.out


def test_a_code_that_is_none_is_told_before_anything_is_trained(cli: Any, calls: list[Any]) -> None:
    done = cli("check", "a:b", "--data", "c:d", "--explain", "SG99")
    assert done.status == 1
    assert calls == []
