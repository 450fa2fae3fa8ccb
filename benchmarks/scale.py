"""Scale: how a run file, its reading, the diagnosis and the report grow up to 10,000 skips over 100,000 steps.

    python benchmarks/scale.py [--cases 100x1000 1000x10000 10000x100000] [--whole 200]

The rows are made up (a residual chain of two layers a skip, random figures drifting over the steps); no net is trained.
Past the first ``--whole`` steps only those that the file keeps, and a hundred others spread evenly, are written with
all their rows; the others with one row of each kind, because the schedule drops them at the next step whatever they
hold. The first thing printed is a check that this changes nothing: both ways to write a small run read back the same.

Each stage is a process of its own; its peak of resident memory counts the interpreter and imports in. Processor seconds
are the process's own, wall seconds stand beside them: the machine was shared. "A step" is what the training loop waits
for: `skip_rows`, `layer_rows`, `losses` and `commit`. The page is opened five times in headless Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import machine, peak_bytes, versions

from skipgrad.core import Layer, LayerRow, LossPoint, Skip, SkipGraph, SkipRow, Trial
from skipgrad.store import RunWriter, read_run, schedule

SAMPLED = 100  # steps written with all their rows although the schedule drops them, past the first ones


def graph(skips: int) -> SkipGraph:
    """A residual chain in four stages, two layers a skip."""

    def name(i: int) -> str:
        return f"stage{4 * i // skips}.{i}"

    shape = (32, 256)
    layers = tuple(
        Layer(f"{name(i)}.fc{k}", "linear", shape, f"stage{4 * i // skips}") for i in range(skips) for k in (1, 2)
    )
    made = (
        Skip(
            name(i), "add", "identity", False, 2, 2, ((f"{name(i)}.fc1", f"{name(i)}.fc2"),), shape, shape, name(i),
            start=2 * i, end=2 * i + 2, previous=name(i - 1) if i else None,
        )
        for i in range(skips)
    )  # fmt: skip
    return SkipGraph(tuple(made), layers=layers, model=f"chain of {skips:,} skips")


class Rows:
    """Made-up rows of one step; a step's are the same whenever they are made."""

    def __init__(self, graph: SkipGraph) -> None:
        rng = random.Random(0)
        self.skips = [(s.name, rng.lognormvariate(0, 0.5), rng.lognormvariate(-1, 0.5)) for s in graph.skips]
        self.layers = [(layer.name, rng.lognormvariate(0, 0.5)) for layer in graph.layers]

    def of(self, step: int, only: int | None = None) -> tuple[list[SkipRow], list[LayerRow]]:
        """All rows of a step, or the first ``only`` of each kind."""
        drift = random.Random(step).lognormvariate(0, 0.3)
        skips = [
            SkipRow(step, 0, n, s * drift, b * drift, (s + b) * drift, s, 0.1, (s + b) / s, 1.0, b / s, 1e-8)
            for n, s, b in self.skips[:only]
        ]
        layers = [
            LayerRow(step, n, d, g * drift, 12.0, 0.4 * g * drift, 0.004 * g * drift, 0.0, 0.0, 65536)
            for d, (n, g) in enumerate(self.layers[:only])
        ]
        return skips, layers


def write(path: Path, skips: int, steps: int, whole: int) -> dict[str, Any]:
    """Writes a run; the seconds are those of the steps written with all their rows."""
    net = graph(skips)
    rows = Rows(net)
    dense = schedule.dense(3 * skips)
    apart = max(1, steps // SAMPLED)
    meta = {"model": net.model, "data": "made up", "steps": steps, "optimizer": "sgd", "lr": 0.01, "state": "done"}
    wall, processor = {True: [], False: []}, {True: [], False: []}  # by whether the schedule keeps the step
    with RunWriter.create(path, meta) as writer:
        writer.graph(net).trial(Trial(0, None, 0.01, 0, steps, measured=True, state="done")).commit()
        for step in range(steps):
            kept = schedule.is_kept(step, dense)
            full = step < whole or kept or step % apart == apart - 1 or step == steps - 1
            a, b = rows.of(step, None if full else 1)
            start, used = time.perf_counter(), time.process_time()
            writer.losses([LossPoint(0, step, 2.3 / (1 + step / 100), 0.1 * step)])
            writer.skip_rows(0, a).layer_rows(0, b).commit()
            if full:
                wall[kept].append(time.perf_counter() - start)
                processor[kept].append(time.process_time() - used)
    return {
        "steps in full": sum(map(len, wall.values())),
        "ms a step": 1e3 * statistics.median(processor[True] + processor[False]),
        "wall ms a step": 1e3 * statistics.median(wall[True] + wall[False]),
        "ms a dropped step": 1e3 * statistics.median(processor[False]) if processor[False] else None,
        "MB": path.stat().st_size / 1e6,
        "peak MB": peak_bytes() / 1e6,
    }


def stage(name: str, path: Path) -> dict[str, Any]:
    """One of reading, diagnosing and reporting; reading comes before the other two and is not counted in."""
    from skipgrad.diagnosis import diagnose
    from skipgrad.report import write_html

    start, used = time.perf_counter(), time.process_time()
    run = read_run(path)
    out: dict[str, Any] = {"rows": sum(map(len, run.skip_rows.values())) + sum(map(len, run.layer_rows.values()))}
    out["steps"] = len({r.step for r in run.skip_rows[0]})
    if name != "read":
        start, used = time.perf_counter(), time.process_time()
    if name == "diagnose":
        findings = diagnose(run)
        out["states"] = [f"{f.code} {f.state}" for f in findings if f.state == "found"]
    out["s"], out["wall s"] = time.process_time() - used, time.perf_counter() - start
    if name == "report":
        run = replace(run, findings=diagnose(run))
        start, used = time.perf_counter(), time.process_time()
        page = write_html(run, path.with_suffix(".html"))
        out["s"], out["wall s"] = time.process_time() - used, time.perf_counter() - start
        out["MB"] = page.stat().st_size / 1e6
    out["peak MB"] = peak_bytes() / 1e6
    return out


def load(page: Path) -> list[float]:
    """Seconds from asking for the page until its figures are drawn, five times in one browser."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import browser  # pyright: ignore[reportMissingImports] - lies with the tests

    out = []
    with tempfile.TemporaryDirectory() as folder:
        running = browser.chromium(Path(folder) / "profile")
        driver = next(running)
        for _ in range(5):
            driver.get(page.as_uri())
            # `get` returns after the load event; the figures come then, and asking costs some milliseconds.
            while not (ready := driver.execute_script("return document.body.dataset.ready && performance.now()")):
                time.sleep(0.01)
            out.append(ready / 1e3)
        for _ in running:
            pass
    return out


def child(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def check_reduction(folder: Path) -> None:
    """Steps that are dropped may be written with one row."""
    write(folder / "full.db", 100, 3000, 3000)
    write(folder / "reduced.db", 100, 3000, 200)
    full, reduced = read_run(folder / "full.db", all_kept=True), read_run(folder / "reduced.db", all_kept=True)
    if (full.skip_rows, full.layer_rows, full.losses) != (reduced.skip_rows, reduced.layer_rows, reduced.losses):
        raise SystemExit("a run written in short differs from one written in full")
    print("100 skips x 3,000 steps written in full and in short: the same rows")


def case(folder: Path, skips: int, steps: int, whole: int) -> None:
    path = folder / f"{skips}x{steps}.db"
    w = child("write", path, skips, steps, whole)
    print(f"{skips:,} skips, {2 * skips:,} layers x {steps:,} steps = {3 * skips * steps:,} rows", flush=True)
    print(
        f"  write     {w['ms a step']:.2f} ms a step ({w['wall ms a step']:.2f} wall), "
        f"{1e3 * w['ms a step'] / (3 * skips):.2f} us a row, {w['steps in full']:,} steps in full; "
        f"file {w['MB']:.1f} MB; peak {w['peak MB']:.0f} MB",
        flush=True,
    )
    r, d, h = (child(name, path) for name in ("read", "diagnose", "report"))
    print(
        f"  read      {r['s']:.2f} s ({r['wall s']:.2f} wall): {r['rows']:,} rows of {r['steps']:,} steps, "
        f"{1e6 * r['s'] / r['rows']:.2f} us a row; peak {r['peak MB']:.0f} MB"
    )
    print(f"  diagnose  {d['s']:.2f} s ({d['wall s']:.2f} wall); peak {d['peak MB']:.0f} MB; {d['states']}")
    print(f"  report    {h['s']:.2f} s ({h['wall s']:.2f} wall); page {h['MB']:.2f} MB; peak {h['peak MB']:.0f} MB")
    seconds = load(path.with_suffix(".html"))
    print(
        f"  browser   {statistics.median(seconds):.2f} s [{min(seconds):.2f}-{max(seconds):.2f}] until the figures are "
        f"drawn; load average {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, path, *numbers = sys.argv[2:]
        out = write(Path(path), *map(int, numbers)) if name == "write" else stage(name, Path(path))
        print(json.dumps(out))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["100x1000", "1000x10000", "10000x100000"])
    parser.add_argument("--whole", type=int, default=200)
    given = parser.parse_args()
    print(f"# {machine()}; {versions('skipgrad', 'altair')}")
    with tempfile.TemporaryDirectory() as folder:
        check_reduction(Path(folder))
        for text in given.cases:
            skips, steps = map(int, text.split("x"))
            case(Path(folder), skips, steps, given.whole)


if __name__ == "__main__":
    main()
