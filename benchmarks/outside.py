"""Other people's nets: each is found, and trained three steps watched and unwatched, whose bits must be the same.

    python benchmarks/outside.py classics FOLDER --out FILE.jsonl   # a folder of modules, each with build functions
    python benchmarks/outside.py tests FOLDER --out FILE.jsonl      # the tests of a peer that trace models
    python benchmarks/outside.py timm --out FILE.jsonl [NAME …]     # timm's models, as its own tests list them
        [--workers 1] [--timeout 120] [--memory 6] [--only TEXT] [--retry CLASS …] [--summary]

FOLDER is of a checkout that you have: for torchlens, ``menagerie/classics`` and ``tests``. None of its code is here.

A line of JSON is appended for each module as it is done, and what is in the file is not run again (``--retry find watch
differs undecided``: those are). A model that takes too long or kills its process costs itself alone.

Each model has a class: ``equal``, found and trained to the same bits; ``found``, found, and it cannot be trained
without skipgrad either (it returns nothing that asks for a gradient, or raises); ``random``, two trainings of its own
differ; ``model``, it does not build or run; ``library``, it needs one that is not installed; ``undecided`` for want of
time or memory; and those that are skipgrad's fault: ``find``, ``watch``, ``differs``. Exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import machine, versions
from outside_job import CLASSES, FAULTS
from outside_tests import tested
from sweep_pool import examined

Record = dict[str, Any]


def read(path: Path) -> dict[str, Record]:
    """The last record of each module."""
    records: dict[str, Record] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a last line cut off by a kill
        records[record["ref"]] = record
    return records


def modules(folder: Path) -> list[str]:
    """The modules of a folder that are no one else's helper."""
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder: give a checkout's")
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def runs(given: argparse.Namespace, done: dict[str, Record]) -> Iterator[Record]:
    """The records that are not there yet."""
    again = {ref for ref, r in done.items() if any(m["class"] in given.retry for m in r["models"].values())}
    skip = done.keys() - again
    if given.what == "tests":
        yield from tested(given.folder, skip, given.only, given.timeout, given.memory)
        return
    if given.what == "timm":
        import outside_timm

        names, prefix = given.names or outside_timm.names(), "timm"
    else:
        names, prefix = given.names or modules(given.folder), str(given.folder.resolve())
    job = "outside_timm" if given.what == "timm" else "outside_job"
    left = [f"{prefix}::{n}" for n in names if n not in skip and given.only in n]
    for record in examined(left, str(given.workers), given.timeout, given.memory, job):
        if "models" not in record:  # it took too long, or its process died
            name = record["ref"].split("::")[1]
            failed = {"class": "undecided", "reason": record["reason"]}
            record = {"ref": name, "models": {name: failed}, "seconds": round(record["find_s"], 2)}
        yield record


def summary(records: dict[str, Record]) -> tuple[list[str], int]:
    """Lines that tell what became of the models, and how many are our faults."""
    models = [(ref, name, m) for ref, r in records.items() for name, m in r["models"].items()]
    counts = Counter(m["class"] for _, _, m in models)
    equal = [m for _, _, m in models if m["class"] == "equal"]
    skips = [m.get("skips", 0) for _, _, m in models]
    whole = sum(not m.get("unmeasured") and m.get("measured", 0) > 0 for m in equal)
    lines = [
        f"models      {len(models)} of {len(records)} modules",
        "classes     " + ", ".join(f"{c} {counts[c]}" for c in CLASSES if counts[c]),
        f"skips       {sum(skips)} in {sum(n > 0 for n in skips)} models",
        f"measured    {whole} of {len(equal)} in every forward",
    ]
    reasons = Counter(why for m in equal for why in m.get("unmeasured", {}))
    lines += [f"  not measured in {n}: {why[:150]}" for why, n in reasons.most_common(8)]
    adds = sum(not m.get("adds_up", True) for m in equal)
    if adds:
        lines.append(f"  the account does not add up in {adds}")
    for kind in FAULTS:
        lines += [
            f"  {kind}: {ref}: {name}: {m.get('reason', '')[:200]}" for ref, name, m in models if m["class"] == kind
        ]
    return lines, sum(counts[k] for k in FAULTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("classics", "tests", "timm"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--memory", type=float, default=6, help="GiB a worker")
    parser.add_argument("--only", default="", help="names that hold this")
    parser.add_argument("--retry", nargs="*", default=(), choices=CLASSES)
    parser.add_argument("--summary", action="store_true", help="run nothing")
    given = parser.parse_args()
    if given.what == "timm" and given.folder is not None:
        given.names, given.folder = [str(given.folder), *given.names], None
    if given.what != "timm" and given.folder is None:
        parser.error("give the checkout's folder")
    done = read(given.out)
    if not given.summary:
        with given.out.open("a", encoding="utf-8") as file:
            for k, record in enumerate(runs(given, dict(done)), 1):
                file.write(json.dumps(record) + "\n")
                file.flush()
                done[record["ref"]] = record
                bad = sum(m["class"] in FAULTS for r in done.values() for m in r["models"].values())
                print(f"\r{k} now, {len(done)} in all, {bad} faults  ", end="", file=sys.stderr, flush=True)
    lines, faults = summary(done)
    print(f"{machine()}\n{versions()}", *lines, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
