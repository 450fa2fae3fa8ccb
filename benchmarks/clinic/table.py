"""What the checks found on the sick, and where they gave an alarm on the healthy and the cured: per check, per half."""

from __future__ import annotations

from typing import Any

from skipgrad.diagnosis import CHECKS

Row = dict[str, Any]


def table(rows: list[Row]) -> str:
    """Two tables in Markdown: per check, and for each half. A net of which nothing was measured counts nowhere."""
    rows = [r for r in rows if r.get("measured", True)]
    out = [
        "| check | sick nets whose first name it is | found | missed | alarms on the healthy | on the cured |",
        "|---|---|---|---|---|---|",
    ]
    for code in CHECKS.built_in:
        having = [r for r in rows if r["kind"] == "sick" and code == r["disease"][0]]
        found = sum(code in r["alarms"] for r in having)
        alarms = [sum(code in r["alarms"] for r in rows if r["kind"] == k) for k in ("healthy", "cured")]
        out.append(f"| {code} | {len(having)} | {found} | {len(having) - found} | {alarms[0]} | {alarms[1]} |")
    out += [
        "",
        "| half | sick nets that a warning or error names | healthy nets without one | cured ones without one |",
        "|---|---|---|---|",
    ]
    for half, what in (("A", "A, to set thresholds"), ("B", "B, to judge them")):
        own = [r for r in rows if r["half"] == half]
        cells = [_of([bool(set(r["alarms"]) & set(r["disease"])) for r in own if r["kind"] == "sick"])]
        cells += [_of([not r["alarms"] for r in own if r["kind"] == k]) for k in ("healthy", "cured")]
        out.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(out)


def _of(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)}"


def cures(rows: list[Row]) -> str:
    return ""
