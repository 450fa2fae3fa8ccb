"""The clinic's own arithmetic: what is right, what stays as it was at first sight, and pages that are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clinic.cure import Step, steps_of
from clinic.docs import between, pages
from clinic.rows import Rows, right
from clinic.table import counted, cures, figures, row_of_check, table
from clinic.treat import Record
from clinic.wards import HEALTHY, SICK

from skipgrad.core import Finding

NEWEST = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*-clinic.jsonl"))[-1]


def row(name: str, kind: str = "sick", **more: Any) -> dict[str, Any]:
    plain = {"name": name, "kind": kind, "half": "A", "disease": ["SG001", "SG012"] if kind == "sick" else []}
    return plain | {"alarms": [], "hints": [], "learned": kind != "sick", "measured": True} | more


def finding(code: str, **evidence: Any) -> Finding:
    return Finding(code, "title", "warning", "found", evidence=evidence, remedies=("zero-init",))


def test_a_sick_net_is_right_when_named_and_any_other_when_left_alone() -> None:
    assert right(row("a", alarms=["SG012"]))
    assert not right(row("a", alarms=["SG002"]))
    assert right(row("b", "healthy", hints=["SG007"]))
    assert not right(row("c", "cured", alarms=["SG007"]))


def test_what_was_said_at_first_sight_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Rows(path).add(row("a", first_sight=False))
    again = Rows(path)
    again.add(row("a", alarms=["SG001"], first_sight=True))
    again.add(row("b", first_sight=True))
    seen = Rows(path).known
    assert list(seen) == ["a", "b"]
    assert seen["a"]["alarms"] == ["SG001"]
    assert seen["a"]["first_sight"] is False


def test_the_tables_count() -> None:
    rows = [
        row("a", alarms=["SG001"], cure={"outcome": "learns"}),
        row("b", alarms=["SG012"], first_sight=False, cure={"outcome": "by hand"}),
        row("c", "healthy", alarms=["SG001"]),
        row("d", "cured"),
        row("e", "cured", alarms=["SG001"], learned=False),  # no twin of anything: it does not count
    ]
    assert figures(counted(rows), "SG001") == (2, 1, 1, 1, 0)
    assert "| A, to set thresholds | 2 of 2 | 0 of 1 | 1 of 1 |" in table(rows)
    assert "| A, of the second round, at first sight | 0 of 1 | 0 of 0 | 0 of 0 |" in table(rows)
    assert "| A, to set thresholds | 1 of 2 | 1 of 2 | 0 of 2 | 0 of 2 |" in cures(rows)
    told = row_of_check(rows, "SG001")
    assert "*b* (by SG012)" in told
    assert "none: *c*." in told


def test_a_page_is_written_between_its_marks() -> None:
    page = "## When it is wrong\n\n- Never.\n\n## What to do\n\nNothing.\n"
    once = between(page, "one")
    assert once.index("- Never.") < once.index("one") < once.index("## What to do")
    assert between(once, "two") == once.replace("one", "two")


def test_the_tool_does_what_is_told_of_the_run_first() -> None:
    alarms = (finding("SG003", dtype_wanted="float32"), finding("SG012", rate_factor=10.0))
    record = Record("a", 1.0, 1.0, ("SG003", "SG012"), (), {}, alarms)
    assert steps_of(record) == [Step("rate", 10.0), Step("zero-init"), Step("float32")]


def test_a_disease_has_its_reason_and_a_twin() -> None:
    told = [case for case in SICK if case.why]
    assert len(told) >= 60
    assert all(case.disease and case.cured is not None and not case.cured.disease for case in told)


def test_the_pages_have_the_newest_rows() -> None:
    rows = list(Rows(NEWEST).known.values())
    assert (
        {c.name for c in SICK}
        <= {r["name"] for r in rows}
        <= {c.name for w in (*SICK, *HEALTHY) for c in (w, w.cured) if c}
    )
    stale = [page.name for page, text in pages(rows).items() if text != page.read_text("utf-8")]
    assert not stale, f"python benchmarks/clinic --rows {NEWEST.name} --docs writes {stale}"
