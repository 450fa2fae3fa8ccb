"""What the checks found on the sick, and where they gave an alarm on the healthy and the cured: as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from clinic.rows import Row, right
from skipgrad.diagnosis import CHECKS

HALVES = (("A", "A, to set thresholds"), ("B", "B, to judge them"))
NOT_ASKED = ("SG014",)  # it needs looks at D, which the clinic does not take
# Outcomes of a cure, in the order of the table.
OUTCOMES = (
    ("learns", "learns"),
    ("by hand", "the finding says that it takes a person"),
    ("tried", "tried in vain or refused, and then says so"),
    ("does not", "does not learn"),
)


def table(rows: list[Row]) -> str:
    """Two tables: per check, and for each half; what counts is said by `counted`."""
    rows = counted(rows)
    out = [
        "| check | sick nets whose first name it is | found | missed | alarms on the healthy | on the cured |",
        "|---|---|---|---|---|---|",
        *(f"| {code} | {' | '.join(map(str, figures(rows, code)))} |" for code in asked()),
        "",
        "| half | sick nets that a warning or error names | healthy nets without one | cured ones without one |",
        "|---|---|---|---|",
    ]
    for half, what in HALVES:
        own = [r for r in rows if r["half"] == half]
        cells = [_of(right(r) for r in own if r["kind"] == kind) for kind in ("sick", "healthy", "cured")]
        out.append(f"| {what} | {' | '.join(cells)} |")
        blind = [r for r in own if r.get("first_sight") is not None]
        cells = [_of(r["first_sight"] for r in blind if r["kind"] == kind) for kind in ("sick", "healthy", "cured")]
        if blind:
            out.append(f"| {half}, of the second round, at first sight | {' | '.join(cells)} |")
    return "\n".join(out)


def asked() -> list[str]:
    """The checks that the clinic says something of."""
    return [code for code in CHECKS.built_in if code not in NOT_ASKED]


def counted(rows: list[Row]) -> list[Row]:
    """The rows that count: all sick nets, and those of the others that were measured and learned."""
    return [r for r in rows if r["kind"] == "sick" or (r.get("measured", True) and r["learned"])]


def figures(rows: list[Row], code: str) -> tuple[int, int, int, int, int]:
    """Sick nets whose first name a check is, found, missed, alarms on the healthy and on the cured."""
    having = [r for r in rows if r["kind"] == "sick" and code == r["disease"][0]]
    found = sum(code in r["alarms"] for r in having)
    healthy, cured = (sum(code in r["alarms"] for r in rows if r["kind"] == k) for k in ("healthy", "cured"))
    return len(having), found, len(having) - found, healthy, cured


def cures(rows: list[Row]) -> str:
    """What became of the sick when the tool followed its own prescriptions; empty where nobody asked it to."""
    treated = [r for r in rows if r["kind"] == "sick" and "cure" in r]
    if not treated:
        return ""
    out = [
        f"| half | {' | '.join(what for _, what in OUTCOMES)} |",
        "|---|---|---|---|---|",
    ]
    for half, what in HALVES:
        own = [r["cure"]["outcome"] for r in treated if r["half"] == half]
        out.append(f"| {what} | {' | '.join(f'{own.count(o)} of {len(own)}' for o, _ in OUTCOMES)} |")
    return "\n".join(out)


def row_of_check(rows: list[Row], code: str) -> str:
    """A check's own row, and which nets it did not name or cried over."""
    rows = counted(rows)
    first, _, missed, healthy, cured = figures(rows, code)
    may = [r for r in rows if r["kind"] == "sick" and code in r["disease"]]
    well = [r for r in rows if r["kind"] != "sick"]
    out = [
        "| sick nets that it is a right name of | named by it | first name | of those missed | alarms on the healthy "
        "| on the cured |",
        "|---|---|---|---|---|---|",
        f"| {len(may)} | {sum(code in r['alarms'] for r in may)} | {first} | {missed} | {healthy} of "
        f"{sum(r['kind'] == 'healthy' for r in well)} | {cured} of {sum(r['kind'] == 'cured' for r in well)} |",
    ]
    unnamed = [f"*{r['name']}* ({_by(r)})" for r in may if r["disease"][0] == code and code not in r["alarms"]]
    cried = [f"*{r['name']}*" for r in well if code in r["alarms"]]
    if unnamed:
        out += ["", f"Not named by it, though it is the first name: {', '.join(unnamed)}."]
    if cried:
        out += ["", f"An alarm where there should be none: {', '.join(cried)}."]
    return "\n".join(out)


def _by(row: Row) -> str:
    return f"by {', '.join(row['alarms'])}" if row["alarms"] else "by no check"


def _of(hits: Iterable[bool]) -> str:
    each = list(hits)
    return f"{sum(each)} of {len(each)}"
