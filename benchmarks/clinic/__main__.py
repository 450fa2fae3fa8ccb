"""Trains every net of the clinic and writes what each check found, missed and cried over.

    python benchmarks/clinic [--only NAME] [--healthy] [--sick] [--fast] [--out table.md] [--verbose]

Every second case sets thresholds (A), the others judge them (B).
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from clinic.cases import Case
from clinic.treat import Record, treat


def wanted(cases: tuple[Case, ...], only: str, fast: bool) -> list[tuple[str, Case]]:
    """The cases asked for, each with the half it belongs to."""
    halves = [("AB"[k % 2], case) for k, case in enumerate(cases)]
    return [(h, c) for h, c in halves if only in c.name and (c.fast or not fast)]


def line(half: str, kind: str, case: Case, record: Record, seconds: float) -> str:
    """One case in a line."""
    ok = bool(set(record.alarms) & set(case.disease)) if case.disease else not record.alarms and record.learned
    mark = "ok   " if ok else "WRONG"
    loss = f"{record.first:.3g} → {record.last:.3g}"
    told = ", ".join(record.alarms) or "–"
    hints = f" ({', '.join(record.hints)})" if record.hints else ""
    need = f" of {'/'.join(case.disease)}" if case.disease else ""
    return f"{mark} {half} {kind:<7} {case.name:<44} {loss:<22} {told}{hints}{need}  {seconds:.1f} s"


def main() -> int:
    """Runs the clinic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--healthy", action="store_true")
    parser.add_argument("--sick", action="store_true")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    from clinic.table import table

    both = given.healthy == given.sick
    results: list[tuple[str, str, Case, Record]] = []

    def run(half: str, kind: str, case: Case) -> None:
        start = time.perf_counter()
        try:
            record = treat(case)
        except Exception:  # noqa: BLE001  one net that cannot be built must not end the round
            print(f"WRONG {half} {kind:<7} {case.name}: {traceback.format_exc(limit=-2)}", flush=True)
            return
        results.append((half, kind, case, record))
        text = line(half, kind, case, record, time.perf_counter() - start)
        print(text, flush=True)
        if given.verbose or text.startswith("WRONG"):
            for code, said in record.said.items():
                print(f"        {code} {said}", flush=True)

    if both or given.sick:
        from clinic.sick import SICK

        for half, case in wanted(SICK, given.only, given.fast):
            run(half, "sick", case)
            if case.cured is not None:
                run(half, "cured", case.cured)
    if both or given.healthy:
        from clinic.healthy import HEALTHY

        for half, case in wanted(HEALTHY, given.only, given.fast):
            run(half, "healthy", case)
    text = table(results)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
