"""Trains every net of the clinic and writes what each check found, missed and cried over.

    python benchmarks/clinic [--only NAME] [--healthy] [--sick] [--fast] [--rows clinic.jsonl] [--docs] [--verbose]

Every second case sets thresholds (A), the others judge them (B). A case that has a row is not treated again; `--docs`
writes the table of all rows into docs/checks/index.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from clinic.cases import Case
from clinic.table import table
from clinic.treat import Record, treat
from clinic.wards import HEALTHY, SICK

BEGIN, END = "<!-- clinic: begin -->", "<!-- clinic: end -->"


def wanted(cases: tuple[Case, ...], only: str, fast: bool) -> list[tuple[str, Case]]:
    """The cases asked for, each with the half it belongs to."""
    halves = [("AB"[k % 2], case) for k, case in enumerate(cases)]
    return [(h, c) for h, c in halves if only in c.name and (c.fast or not fast)]


def line(half: str, kind: str, case: Case, record: Record, seconds: float) -> str:
    """One case in a line."""
    well = not record.alarms and record.learned and record.measured
    ok = bool(set(record.alarms) & set(case.disease)) if case.disease else well
    mark = "ok   " if ok else "WRONG"
    loss = f"{record.first:.3g} → {record.last:.3g}"
    told = ", ".join(record.alarms) or "–"
    hints = f" ({', '.join(record.hints)})" if record.hints else ""
    need = f" of {'/'.join(case.disease)}" if case.disease else ""
    return f"{mark} {half} {kind:<7} {case.name:<44} {loss:<22} {told}{hints}{need}  {seconds:.1f} s"


class Rows:
    """What was treated before, a JSON line each: a round that was cut off goes on, and the table is made of them."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.known = path, {}
        if path is not None and path.exists():
            rows = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
            self.known = {row["name"]: row for row in rows}

    def add(self, row: dict[str, Any]) -> None:
        """Takes a row down."""
        self.known[row["name"]] = row
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> int:
    """Runs the clinic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--healthy", action="store_true")
    parser.add_argument("--sick", action="store_true")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = Rows(given.rows)
    both = given.healthy == given.sick

    def run(half: str, kind: str, case: Case) -> None:
        if case.name in rows.known:
            return
        start = time.perf_counter()
        try:
            record = treat(case)
        except Exception:  # noqa: BLE001  one net that cannot be built must not end the round
            print(f"WRONG {half} {kind:<7} {case.name}: {traceback.format_exc(limit=-2)}", flush=True)
            return
        text = line(half, kind, case, record, time.perf_counter() - start)
        print(text, flush=True)
        if given.verbose or text.startswith("WRONG"):
            for note in record.notes[:3]:
                print(f"        note: {note}", flush=True)
            for code, said in record.said.items():
                print(f"        {code} {said}", flush=True)
        rows.add(
            {
                "name": case.name,
                "half": half,
                "kind": kind,
                "disease": list(case.disease),
                "alarms": list(record.alarms),
                "hints": list(record.hints),
                "learned": record.learned,
                "measured": record.measured,
            }
        )

    if both or given.sick:
        for half, case in wanted(SICK, given.only, given.fast):
            run(half, "sick", case)
            if case.cured is not None:
                run(half, "cured", case.cured)
    if both or given.healthy:
        for half, case in wanted(HEALTHY, given.only, given.fast):
            run(half, "healthy", case)
    text = table(list(rows.known.values()))
    print(text)
    if given.docs:
        page = Path(__file__).parents[2] / "docs" / "checks" / "index.md"
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
