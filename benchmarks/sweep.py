"""Runs find over whole libraries: what share of their models it traces, how fast, and what it does not understand.

    python benchmarks/sweep.py [--all | --transformers] [--workers N|ray|ray://HOST:PORT] [--results FILE.jsonl]
        [--timeout 120] [--memory 8] [--at-least 0.99] [--retry] [--json] [NAME …]

By default the smallest model of each family of timm, with ``--all`` every registered architecture of timm, with
``--transformers`` every model type of transformers that an auto class knows; or the names given, as ``skipgrad find``
takes them.

A line of JSON is appended to the result file for each model as it is done; a model that is in the file is not run
again, so a sweep that was stopped goes on (``--retry``: those that failed are). A worker that dies, or takes longer
than the time-out, costs one model, which is recorded as failed. Local processes and a Ray cluster run the same function
(sweep_job.py).

A model of transformers whose default configuration does not run is tried with two layers, with numbers filled in that
the default leaves open, and with smaller widths (sweep_small.py); its record says so.

Each record has a class: ``traced``; ``library``, it needs one that is not installed; ``model``, its own constructor or
forward raises on these inputs without find, too; ``find``, only find fails; ``undecided`` for want of memory or time.

Ends with a summary, and with exit status 1 when the share of traced models among traced, ``find`` and ``undecided`` is
less than ``--at-least``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from machine import machine, versions
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sweep_job import CLASSES
from sweep_names import timm_names, transformers_names
from sweep_pool import examined

_ABLE = ("traced", "find", "undecided")  # the rest needs a library, or does not run without find either


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of each model; a last line cut off by a kill is left out."""
    records: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            records[record["ref"]] = record
    return records


def sweep(refs: list[str], path: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Runs what is not in the file yet, appending to it; all records of `refs`."""
    records = {ref: r for ref, r in read(path).items() if r["ok"] or not given.retry}
    todo = [ref for ref in refs if ref not in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[last]}"))
    stamp = {"versions": versions("torch", "timm", "transformers"), "workers": given.workers}
    with path.open("a+", encoding="utf-8") as file, Progress(*columns, console=console) as progress:
        file.seek(0, 2)
        if file.tell() and not path.read_text(encoding="utf-8").endswith("\n"):
            file.write("\n")  # after a line cut off by a kill
        task = progress.add_task("", total=len(refs), completed=len(refs) - len(todo), last="")
        for record in examined(todo, given.workers, given.timeout, given.memory):
            records[record["ref"]] = record
            file.write(json.dumps({**record, **stamp}) + "\n")
            file.flush()
            failed = "" if record["ok"] else " failed"
            progress.update(task, advance=1, last=record["ref"] + failed)
    return {ref: records[ref] for ref in refs}


def class_of(record: dict[str, Any]) -> str:
    """One of CLASSES; a worker that died or took too long left no class."""
    return "traced" if record["ok"] else record.get("class", "undecided")


def summarize(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of a sweep as plain data."""
    done = [r for r in records.values() if r["ok"]]
    seconds = sorted(r["find_s"] for r in done)
    unknown: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for r in done:
        unknown.update(r["unknown"])
        models.update(r["unknown"].keys())
    return {
        "models": len(records),
        "traced": len(done),
        "share": len(done) / len(records) if records else 0.0,
        "classes": (classes := {name: sum(class_of(r) == name for r in records.values()) for name in CLASSES}),
        "share_of_those_that_run": len(done) / able if (able := sum(classes[c] for c in _ABLE)) else 0.0,
        "changed": {word: sum(bool(r.get(word)) for r in done) for word in ("filled", "small")},
        "how": dict(Counter(r["how"] for r in done).most_common()),
        "skips": {kind: sum(r[kind] for r in done) for kind in ("add", "concat", "gate", "index", "long")},
        "ops": sum(r["ops"] for r in done),
        "find_median_s": statistics.median(seconds) if seconds else None,
        "find_p95_s": seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))] if seconds else None,
        "slowest": [[r["ref"], r["find_s"], r["ops"]] for r in sorted(done, key=lambda r: -r["find_s"])[:5]],
        "peak_gb": max((r["peak_bytes"] for r in done), default=0) / 1e9,
        "without_skips": sorted(r["ref"] for r in done if not any(r[k] for k in ("add", "concat", "gate", "index"))),
        "unknown": [[op, n, models[op]] for op, n in unknown.most_common()],
        "failed": {ref: r["reason"] for ref, r in records.items() if not r["ok"]},
        "why": {ref: class_of(r) for ref, r in records.items() if not r["ok"]},
    }


def show(summary: dict[str, Any]) -> str:
    """The summary as text."""
    s = summary
    able = sum(s["classes"][name] for name in _ABLE)
    lines = [
        f"traced          {s['traced']} of {s['models']} ({100 * s['share']:.1f} %)",
        f"of those that run at all  {s['traced']} of {able} ({100 * s['share_of_those_that_run']:.1f} %)",
        f"classes         {', '.join(f'{name} {n}' for name, n in s['classes'].items())}",
        f"configurations  filled in {s['changed']['filled']}, smaller widths {s['changed']['small']}",
    ]
    if s["traced"]:
        lines += [
            f"traced on       {', '.join(f'{how} tensors {n}' for how, n in s['how'].items())}",
            f"skips           {', '.join(f'{kind} {n}' for kind, n in s['skips'].items())}; ops {s['ops']}",
            f"find, seconds   median {s['find_median_s']:.3f}, 95th percentile {s['find_p95_s']:.3f}",
            f"slowest         {', '.join(f'{ref} {t:.2f} s ({ops} ops)' for ref, t, ops in s['slowest'])}",
            f"peak memory     {s['peak_gb']:.2f} GB (the largest of any model, imports included)",
            f"without a skip  {len(s['without_skips'])}: {', '.join(s['without_skips'])}",
        ]
    lines.append(
        f"unknown ops     {len(s['unknown'])}"
        + "".join(f"\n  {op}: {n} calls in {m} models" for op, n, m in s["unknown"])
    )
    lines.append(f"not traced      {len(s['failed'])}")
    for name in CLASSES:
        lines += [f"  {name}: {ref}: {why}" for ref, why in s["failed"].items() if s["why"][ref] == name]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="these models only")
    parser.add_argument("--all", action="store_true", help="all of timm's architectures, not one a family")
    parser.add_argument("--transformers", action="store_true", help="the model types of transformers")
    parser.add_argument("--workers", default="1", help="a number of local processes, ray, or ray://HOST:PORT")
    parser.add_argument("--results", type=Path, help="the result file (JSON Lines)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds a model may take")
    parser.add_argument("--memory", type=float, default=8, help="GiB a worker may allocate")
    parser.add_argument("--at-least", type=float, default=0.0, help="share to be traced, else exit status 1")
    parser.add_argument("--retry", action="store_true", help="run those that failed again")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object")
    given = parser.parse_args()
    kind = "given" if given.names else "transformers" if given.transformers else "timm-all" if given.all else "timm"
    refs = given.names or (transformers_names() if given.transformers else timm_names(given.all))
    path = given.results or Path("skipgrad-runs") / f"sweep-{kind}.jsonl"
    with contextlib.redirect_stdout(sys.stderr):  # Ray talks
        records = sweep(list(dict.fromkeys(refs)), path, given)
    summary = summarize(records)
    if given.json:
        print(json.dumps(summary, indent=1))
    else:
        print(f"{versions('torch', 'timm', 'transformers')}; {machine()}; workers {given.workers}")
        print(show(summary))
    sys.exit(summary["share_of_those_that_run"] < given.at_least)


if __name__ == "__main__":
    main()
