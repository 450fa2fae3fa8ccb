"""A check's page in short, with the figures of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from report import synthetic
from skipgrad.core import UnknownName
from skipgrad.diagnosis import CHECKS
from skipgrad.report import explained


def test_the_runs_figures_stand_beside_the_threshold() -> None:
    run = synthetic.plain56()
    found = replace(run.findings[0], coverage={"steps": 20, "steps_run": 200, "layers": 56, "layers_run": 56})
    text = explained(replace(run, findings=(found,)), "SG001")
    assert text.startswith("SG001 · Vanishing gradient\n")
    assert "In this run: found, error." in text
    lines = [line.split() for line in text.splitlines()]
    rows = [line for line in lines if line and line[-1] in ("0.001", "1.4×10⁻¹²")]
    assert [row[-1] for row in rows] == ["0.001", "1.4×10⁻¹²"]  # the threshold first
    assert "Measured: 20 of 200 steps, 56 of 56 layers" in text
    assert text.endswith("docs/checks/SG001.md")
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize("code", CHECKS.built_in)
def test_every_check_has_a_short_form(code: str) -> None:
    assert CHECKS.get(code).title in explained(synthetic.nothing(), code)
    assert "was not diagnosed" in explained(synthetic.nothing(), code)


def test_a_code_that_is_none() -> None:
    with pytest.raises(UnknownName):
        explained(synthetic.nothing(), "SG99")
