"""What the checks found on the sick, and where they gave an alarm on the healthy and the cured: per check, per half."""

from __future__ import annotations

from clinic.cases import Case
from clinic.treat import Record
from skipgrad.diagnosis import CHECKS


def table(results: list[tuple[str, str, Case, Record]]) -> str:
    """Two tables in Markdown: per check, and in sum for each half."""
    out = [
        "| check | found on the sick that have it | missed | alarms on the healthy | alarms on the cured |",
        "|---|---|---|---|---|",
    ]
    for code in CHECKS.built_in:
        having = [r for _, kind, c, r in results if kind == "sick" and code == c.disease[0]]
        found = sum(code in r.alarms for r in having)
        alarms = {k: sum(code in r.alarms for _, kind, _, r in results if kind == k) for k in ("healthy", "cured")}
        out.append(f"| {code} | {found} | {len(having) - found} | {alarms['healthy']} | {alarms['cured']} |")
    out += [
        "",
        "| half | sick named by a warning or error | healthy without one | cured without one |",
        "|---|---|---|---|",
    ]
    for half, what in (("A", "A, which sets thresholds"), ("B", "B, which judges them")):
        own = [(kind, c, r) for h, kind, c, r in results if h == half]
        sick = [bool(set(r.alarms) & set(c.disease)) for kind, c, r in own if kind == "sick"]
        cells = [_of(sick)] + [_of([not r.alarms for kind, _, r in own if kind == k]) for k in ("healthy", "cured")]
        out.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(out)


def _of(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)}"
