"""The gradient by path length: a sentence, two charts, and nothing where nothing was measured."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from report.synthetic import healthy, paths, plain56, spectrum
from skipgrad.core import PathRow, Run
from skipgrad.report import html, parts, terminal
from skipgrad.report.paths import AFTER, BEFORE


def with_paths(*rows: PathRow, run: Run | None = None) -> Run:
    return replace(run or healthy(), paths={0: rows})


def charts(run: Run) -> dict[str, Any]:
    found = re.search('<script type="application/json" id="charts-data">(.*?)</script>', html(run), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def printed(run: Run) -> str:
    out = io.StringIO()
    terminal(run, Console(file=out, width=100))
    return out.getvalue()


def test_what_was_measured_is_told() -> None:
    run = with_paths(*paths(9, 0.5, 0.25, "stage1.0"))
    sentence = (
        "On average the gradient came through 4.5 of 9 branches before the first step and 2.2 after the last step, at "
        "the fork of stage1.0 (signed mean path length)."
    )
    assert parts(run).paths.sentence == sentence
    assert sentence in html(run)
    assert "  mean path length, first to last step: patient 4.5 to 2.2 of 9 branches\n" in printed(run)


def test_the_charts_have_every_length_and_both_means() -> None:
    run = with_paths(*paths(9, 0.5, 0.25))
    told = charts(run)
    assert {"paths-share", "paths-norm"} <= told["specs"].keys()
    points = told["data"]["paths"]
    assert len(points) == 2 * 10
    for when, p in ((BEFORE, 0.5), (AFTER, 0.25)):
        own = [q for q in points if q["when"] == when]
        assert [q["length"] for q in own] == list(range(10))
        assert [q["share"] for q in own] == pytest.approx(list(spectrum(9, p).shares))
        assert sum(q["norm"] for q in own) == pytest.approx(1)
        mean = next(m for m in told["data"]["path-means"] if m["when"] == when)
        assert mean["signed"] == pytest.approx(9 * p)
        assert mean["unsigned"] == pytest.approx(spectrum(9, p).unsigned_mean_length)
    marked = {
        layer["encoding"]["x"]["field"]
        for name in ("paths-share", "paths-norm")
        for layer in told["specs"][name]["layer"]
        if layer["mark"]["type"] == "rule"
    }
    assert marked == {"signed", "unsigned"}


def test_patient_and_cured_stand_beside_each_other_in_their_own_colours() -> None:
    run = plain56()
    both = replace(run, paths={0: paths(9, 0.5, 0.4), **run.paths})
    for told, who in (
        (run, {"cured by add-skips": "var(--cured)"}),
        (both, {"patient": "var(--patient)", "cured by add-skips": "var(--cured)"}),
    ):
        scale = charts(told)["specs"]["paths-share"]["layer"][1]["encoding"]["color"]["scale"]
        assert dict(zip(scale["domain"], scale["range"], strict=True)) == who
        assert {m["who"] for m in parts(told).paths.means} == who.keys()
    assert parts(both).paths.longest == 27
    assert "step: patient 4.5 to 3.6 of 9 branches; cured by add-skips 2.7 to\n  4 of 27\n" in printed(both)
    assert "; 2.7 of 27 branches before the first step and 4 after" in parts(both).paths.sentence


def test_one_of_the_two_is_enough() -> None:
    run = with_paths(PathRow(0, spectrum(1, 0.5)))
    assert "through 0.5 of 1 branch before the first step, at" in parts(run).paths.sentence
    assert "step: patient 0.5 of 1 branch\n" in printed(run)


def test_cancelling_shares_below_zero_and_a_mean_outside_fit_the_axes() -> None:
    wild = replace(spectrum(2, 0.5), shares=(4.0, -4.0, 1.0), mean_length=-2.0)
    x, y = (charts(with_paths(PathRow(9, wild)))["specs"]["paths-share"]["layer"][1]["encoding"][c] for c in "xy")
    assert x["scale"]["domain"] == [-2, 2]
    assert y["scale"]["domain"][0] == -4


def test_a_mean_alone_is_told_and_not_drawn() -> None:
    whole = spectrum(100, 0.1)
    part = replace(whole, lengths=(0,), norms=whole.norms[:1], shares=whole.shares[:1], longer_norm=1.0)
    run = with_paths(PathRow(0, part))
    assert "10 of 100 branches" in parts(run).paths.sentence
    assert "paths-share" not in charts(run)["specs"]
    assert "the mean alone was measured" in html(run)


def test_what_could_not_be_measured_is_told_with_its_reason() -> None:
    run = with_paths(PathRow(0, None, "something odd"), PathRow(9, spectrum(3, 0.5)))
    assert parts(run).paths.missing == ("patient, before the first step: something odd",)
    assert "Not measured: patient, before the first step: something odd." in html(run)


@pytest.mark.parametrize(
    "odd",
    [
        replace(spectrum(3, 0.5), mean_length=math.nan),
        replace(spectrum(3, 0.5), norms=(math.inf,) * 4),
        replace(spectrum(3, 0.5), norms=(0.0,) * 4),
        replace(spectrum(3, 0.5), norms=(), shares=(), lengths=()),
    ],
)
def test_what_is_no_number_is_left_out(odd: Any) -> None:
    run = with_paths(PathRow(0, odd))
    assert parts(run).paths.sentence == ""
    assert "paths-share" not in charts(run)["specs"]
    assert "mean path length" not in printed(run)


def test_without_a_measurement_there_is_no_figure() -> None:
    assert parts(with_paths()).paths == type(parts(with_paths()).paths)()
    assert "Gradient by path length" not in html(with_paths())


def test_names_are_escaped() -> None:
    page = html(with_paths(*paths(3, 0.5, 0.4, "<script>x"), PathRow(20, None, "<script>y")))
    assert "<script>x" not in page
    assert "<script>y" not in page
    assert "&lt;script&gt;x" in page
