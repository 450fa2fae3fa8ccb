"""What every check must do, whatever it looks at."""

import dataclasses
import itertools
import json
import math
import re
from pathlib import Path

import pytest

from diagnosis.rows import (
    healthy_residual,
    layer_rows,
    layers,
    losses,
    path_rows,
    residual_graph,
    skip,
    skip_rows,
    spectrum,
)
from skipgrad.core import Finding, Measurements, SkipGraph
from skipgrad.core.run import SEVERITIES
from skipgrad.diagnosis import CHECKS, diagnose
from skipgrad.remedies import REMEDIES

DOCS = Path(__file__).parents[2] / "docs" / "checks"
STATES = {"found", "passed", "not applicable", "skipped"}
CODES = CHECKS.built_in


def sick(value: float) -> Measurements:
    """A healthy net in which every figure is ``value``, and names that the graph does not have."""
    healthy = healthy_residual()

    def ruin(row, finite):
        figures = {f.name: value for f in dataclasses.fields(row) if f.type in ("float", "float | None")}
        return dataclasses.replace(row, **figures, finite=finite)

    strangers = (dataclasses.replace(healthy.skips[0], skip="stranger"),)
    paths = tuple(dataclasses.replace(r, spectrum=ruined(r.spectrum, value)) for r in healthy.paths)
    alien = (dataclasses.replace(healthy.layers[0], layer="alien", depth=99, weights=0, dtype="float8"),)
    return dataclasses.replace(
        healthy,
        skips=(*[ruin(r, math.isfinite(value)) for r in healthy.skips], *strangers),
        layers=(*[ruin(r, math.isfinite(value)) for r in healthy.layers], *alien),
        losses=losses([value] * 3),
        paths=paths,
    )


def ruined(spectrum, value: float):
    """A path spectrum in which every figure is ``value``."""
    figures = {f.name: value for f in dataclasses.fields(spectrum) if f.type == "float"}
    several = {name: (value,) * len(spectrum.lengths) for name in ("norms", "shares")}
    return dataclasses.replace(spectrum, **figures, **several)


def mixed() -> Measurements:
    """A healthy net in which every third figure is bad, each time another."""
    healthy = healthy_residual()
    bad = itertools.cycle([math.nan, 1.0, 2.0, math.inf, 3.0, 0.0, -math.inf, 1e-300, 1e300])

    def ruin(row):
        return dataclasses.replace(
            row, **{f.name: next(bad) for f in dataclasses.fields(row) if "float" in str(f.type)}
        )

    return dataclasses.replace(
        healthy, skips=tuple(ruin(r) for r in healthy.skips), layers=tuple(ruin(r) for r in healthy.layers)
    )


def nest(count: int) -> SkipGraph:
    skips = tuple(skip(f"u{i}", i, 2 * count - i, kind="concat", long=True) for i in reversed(range(count)))
    return SkipGraph(skips, layers=layers(2 * count + 1))


ODD = {
    "NaN": sick(math.nan),
    "infinity": sick(math.inf),
    "minus infinity": sick(-math.inf),
    "zero": sick(0.0),
    "huge": sick(1e308),
    "tiny": sick(5e-324),
    "mixed": mixed(),
    "no graph": dataclasses.replace(healthy_residual(), graph=SkipGraph(())),
    "graph only": Measurements(residual_graph(12)),
    "an empty spectrum": dataclasses.replace(
        healthy_residual(), paths=path_rows(None, spectrum(9, 0.5, lengths=(), norms=(), shares=()))
    ),
    "one step": dataclasses.replace(
        healthy_residual(), skips=skip_rows(["b0"], steps=[0]), layers=layer_rows(3, steps=[0])
    ),
    "losses only": Measurements(residual_graph(12), losses=losses([1.0, math.nan])),
    "a U": Measurements(nest(4), skip_rows([f"u{i}" for i in range(4)], lambda t, i: {"skip_norm": 0.0})),
    "a ring": Measurements(
        SkipGraph((skip("a", 0, 1, previous="b"), skip("b", 1, 2, previous="a"), skip("c", 2, 3, previous="c")))
    ),
}


@pytest.mark.parametrize("code", CODES)
def test_check_is_complete(code):
    check = CHECKS.get(code)
    assert check.code == code
    assert re.fullmatch(r"SG\d{3}", code)
    assert check.severity in SEVERITIES
    assert 3 < len(check.title) < 50
    assert 100 < len(check.explanation) < 500
    assert check.explanation.endswith(".")


def test_codes_are_in_order_and_without_a_gap():
    assert [f"SG{i:03d}" for i in range(1, len(CODES) + 1)] == CODES


@pytest.mark.parametrize("code", CODES)
def test_check_has_a_page_that_says_the_five_things(code):
    check = CHECKS.get(code)
    text = (DOCS / f"{code}.md").read_text()
    assert text.startswith(f"# {code} · {check.title}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["What it sees", "Why it matters", "Example", "When it is wrong", "What to do"]
    assert f"({code}.md)" in (DOCS / "index.md").read_text()


def test_no_page_without_a_check():
    assert {p.stem for p in DOCS.glob("SG*.md")} == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_check_has_a_test_file_and_a_file_of_its_own(code):
    tests = [p.name for p in Path(__file__).parent.glob(f"test_{code.lower()}*.py")]
    assert len(tests) == 1
    home = CHECKS.get(code).judge.__module__
    assert home.rsplit(".", 1)[-1].startswith(code.lower() + "_")


@pytest.mark.parametrize("code", CODES)
def test_nothing_measured_is_never_passed_nor_found(code):
    finding = CHECKS.get(code)(Measurements(SkipGraph(())))
    assert finding.state in ("not applicable", "skipped")
    assert finding.prescription


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("odd", ODD)
def test_odd_rows_give_a_finding_that_can_be_written_down(code, odd):
    finding = CHECKS.get(code)(ODD[odd])
    assert isinstance(finding, Finding)
    assert finding.state in STATES
    assert finding.severity in SEVERITIES
    assert len(set(finding.where)) == len(finding.where)
    assert all(isinstance(name, str) for name in finding.where)
    assert finding.prescription
    assert set(finding.remedies) <= set(REMEDIES)
    for key, value in finding.evidence.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", key)
        assert isinstance(value, (int, float, str))
    json.dumps(finding.evidence, allow_nan=False)
    if finding.state in ("found", "passed"):
        assert "threshold" in finding.evidence
    else:
        assert not finding.evidence


def test_a_healthy_residual_net_passes_all_that_applies():
    states = {f.code: f.state for f in diagnose(healthy_residual())}
    assert states.pop("SG008") == "not applicable"
    assert set(states.values()) == {"passed"}
