"""The sentence on path lengths: told where it was measured, left out where it was not."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from report.synthetic import healthy
from skipgrad.report import html, parts, terminal

MEASURED = {"at": "stage1.0", "branches": 9, "first": 4.71, "last": 3.42}
SENTENCE = (
    "On average the gradient at the fork of stage1.0 came through 4.7 before the first step and 3.4 after the last "
    "of 9 branches (signed mean path length)."
)


def test_what_was_measured_is_told() -> None:
    run = healthy()
    run = replace(run, meta={**run.meta, "paths": MEASURED})
    assert parts(run).paths == SENTENCE
    assert SENTENCE in html(run)
    out = io.StringIO()
    terminal(run, Console(file=out, width=100))
    assert "signed mean path length" in out.getvalue()


def test_one_of_the_two_is_enough() -> None:
    run = healthy()
    run = replace(run, meta={**run.meta, "paths": {"at": "a", "branches": 1, "first": 0.5}})
    assert "through 0.5 before the first step of 1 branch (" in parts(run).paths


@pytest.mark.parametrize(
    "told", [None, [], {}, {"branches": 3}, {"branches": "3", "first": 1.0}, {"branches": 3, "first": float("nan")}]
)
def test_what_was_not_measured_is_left_out(told: object) -> None:
    run = healthy()
    assert parts(replace(run, meta={**run.meta, "paths": told})).paths == ""


def test_names_are_escaped() -> None:
    run = healthy()
    page = html(replace(run, meta={**run.meta, "paths": {**MEASURED, "at": "<script>x"}}))
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
