"""Trains every net of the clinic and writes what each check found, missed and cried over.

    python benchmarks/clinic [--only NAME] [--healthy] [--sick] [--fast] [--again] [--cure] [--rows FILE] [--docs]

Every second case sets thresholds (A), the others judge them (B). A case that has a row is not treated again, but with
`--again`. `--cure` has each sick net treated by what its own findings prescribe. `--docs` writes the tables of all rows
into docs/checks.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from clinic.cases import Case
from clinic.cure import Cured, cure
from clinic.docs import write
from clinic.rows import Row, Rows, right, row_of
from clinic.table import cures, table
from clinic.treat import treat
from clinic.wards import FIRST_ROUND, HEALTHY, SICK


def wanted(given: argparse.Namespace) -> Iterator[tuple[str, str, bool, Case]]:
    """Half, kind, whether it is a blind one, and the case: those asked for."""
    both = given.healthy == given.sick
    wards = [("sick", SICK)] * (both or given.sick) + [("healthy", HEALTHY)] * (both or given.healthy)
    for kind, cases in wards:
        for k, case in enumerate(cases):
            if given.fast and not case.fast:
                continue
            for name, one in ((kind, case), ("cured", case.cured)):
                if one is not None and given.only in one.name:
                    yield "AB"[k % 2], name, k >= FIRST_ROUND[kind], one


def show(row: Row, said: dict[str, str], seconds: float, verbose: bool) -> None:
    """One case in a line, and its sentences where it is not as it should be."""
    ok = right(row) and (row["kind"] == "sick" or (row["learned"] and row["measured"]))
    first, last = row["loss"]
    told = ", ".join(row["alarms"]) or "–"
    hints = f" ({', '.join(row['hints'])})" if row["hints"] else ""
    need = f" of {'/'.join(row['disease'])}" if row["disease"] else ""
    head = f"{'ok   ' if ok else 'WRONG'} {row['half']} {row['kind']:<7} {row['name']:<50}"
    print(f"{head} {first} → {last}  {told}{hints}{need}  {seconds:.1f} s", flush=True)
    if verbose or not ok:
        for code, text in said.items():
            print(f"        {code} {text}", flush=True)


def see(rows: Rows, half: str, kind: str, blind: bool, case: Case, verbose: bool) -> None:
    """Treats a case and takes it down."""
    start = time.perf_counter()
    try:
        record = treat(case)
    except Exception:  # noqa: BLE001  one net that cannot be built must not end the round
        print(f"WRONG {half} {kind:<7} {case.name}: {traceback.format_exc(limit=-2)}", flush=True)
        return
    row = row_of(half, kind, blind, case, record)
    show(row, record.said, time.perf_counter() - start, verbose)
    rows.add(row)


def mend(rows: Rows, case: Case) -> None:
    """Has a sick case cured by its own findings, and takes down what came of it."""
    row = rows.known.get(case.name)
    if row is None:
        print(f"no row of {case.name} yet: treat it first", flush=True)
        return
    start = time.perf_counter()
    done: Cured = cure(case)
    print(f"{done.outcome:<9} {case.name:<50} {done.told}  {time.perf_counter() - start:.1f} s", flush=True)
    rows.add(row | {"cure": done.row()})


def main() -> int:
    """Runs the clinic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    for flag in ("healthy", "sick", "fast", "again", "cure", "verbose", "docs"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = Rows(given.rows)
    for half, kind, blind, case in wanted(given):
        if not given.cure and (given.again or case.name not in rows.known):
            see(rows, half, kind, blind, case, given.verbose)
        elif given.cure and kind == "sick" and (given.again or "cure" not in rows.known.get(case.name, {})):
            mend(rows, case)
    known = list(rows.known.values())
    print(table(known), cures(known), sep="\n\n")
    if given.docs:
        write(known)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
