"""What was treated, a JSON line each: a round that was cut off goes on, and the tables are made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clinic.cases import Case
from clinic.treat import Record

Row = dict[str, Any]


def right(row: Row) -> bool:
    """Whether the checks said what is so: a sick net's disease is named, any other net has no warning and no error."""
    if row["kind"] == "sick":
        return bool(set(row["alarms"]) & set(row["disease"]))
    return not row["alarms"]


def row_of(half: str, kind: str, blind: bool, case: Case, record: Record) -> Row:
    """A case as it is kept.

    Args:
        half: ``"A"`` sets thresholds, ``"B"`` judges them.
        kind: ``"sick"``, ``"cured"`` or ``"healthy"``.
        blind: whether no check was mended by what it first said of this case; then `first_sight` is kept for good.
        case: the net and its training.
        record: what was found.
    """
    row: Row = {
        "name": case.name,
        "half": half,
        "kind": kind,
        "disease": list(case.disease),
        "alarms": list(record.alarms),
        "hints": list(record.hints),
        "learned": record.learned,
        "measured": record.measured,
        "optimizer": case.optimizer,
        "seed": case.seed,
        "loss": [_figure(record.first), _figure(record.last)],
    }
    return row | {"first_sight": right(row) if blind else None}


def _figure(value: float) -> float | str:
    return float(f"{value:.4g}") if abs(value) < float("inf") else str(value)


class Rows:
    """The rows of a file, by the name of their case."""

    def __init__(self, path: Path | None) -> None:
        self.path: Path | None = path
        self.known: dict[str, Row] = {}
        if path is not None and path.exists():
            rows = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
            self.known = {row["name"]: row for row in rows}

    def add(self, row: Row) -> None:
        """Takes a row down. What a case was called at first sight stays."""
        before = self.known.get(row["name"])
        if before is not None and before.get("first_sight") is not None:
            row = row | {"first_sight": before["first_sight"]}
        if before is not None and "cure" in before and "cure" not in row:
            row = row | {"cure": before["cure"]}
        self.known[row["name"]] = row
        if self.path is None:
            return
        if before is None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        else:
            self.path.write_text("".join(_line(r) for r in self.known.values()), "utf-8")


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
