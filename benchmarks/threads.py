"""Whether `--threads auto` is as fast as the best fixed number of threads, quiet and beside a busy process.

Each job trains a net in a process of its own, as `skipgrad check` does: `auto` first takes the steps it throws away,
and those count. A job trains for half a minute; a command trains for longer, and throws them away once. Jobs are
interleaved. A job that is too slow is stopped after ``--limit`` seconds, and its time told
for all steps by those it took. The busy processes are started and ended here.

    OMP_NUM_THREADS= python benchmarks/threads.py --rounds 5 --out benchmarks/results/DATE-threads.txt
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from machine import machine, versions

GOAL = 1.15

# name: model, data, batch size, steps
NETS = {
    "plain56 on digits": ("skipgrad:plain56", "digits", 64, 400),
    "resnet20 of width 64 on digits": ("skipgrad:resnet20 width=64", "digits", 64, 120),
}

# A process that has work to do all the time, as a neighbour's training has.
BUSY = "while True: sum(i * i for i in range(10_000))"


def job(net: str, threads: str, limit: float) -> None:
    """One process of it: trains, and prints what it took."""
    from skipgrad.core import Recipe
    from skipgrad.instrument.threads import Threads
    from skipgrad.models import fit
    from skipgrad.train import settle, train_trial

    model, data, batch, steps = NETS[net]
    name, *args = model.split()
    given = {k: int(v) for k, v in (a.split("=") for a in args)}
    workload = fit(name, given, data, batch_size=batch)
    with Threads(1) as warm:  # what a process does once (optimizer, kernels) is no matter of threads
        train_trial(workload, Recipe(steps=2, lr=0.01), threads=warm)
    settings = Recipe(steps=steps, lr=0.01)
    with Threads(threads) as chooser:
        begin = time.perf_counter()
        settle(workload, settings, chooser)
        spent = time.perf_counter() - begin
        result = train_trial(
            workload, settings, threads=chooser, stop=lambda _: time.perf_counter() - begin > limit + spent
        )
        took = time.perf_counter() - begin - spent
        done = len(result.losses)
        print(json.dumps({"seconds": spent + took * steps / done, "done": done, **chooser.meta()}))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute beside us."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        time.sleep(1.0 * bool(count))
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measured(net: str, threads: str, limit: float) -> dict:
    words = [sys.executable, __file__, "--job", net, "--threads", threads, "--limit", str(limit)]
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def table(nets: list[str], rounds: int, limit: float, beside: list[int], note: str) -> Iterator[str]:
    from skipgrad.instrument.cpus import allowed_cpus

    allowed = allowed_cpus()
    variants = ["auto", "1", *([str(allowed)] if allowed > 1 else [])]
    yield machine()
    yield versions("torch", "skipgrad")
    yield f"{allowed} CPUs allowed; {rounds} rounds, interleaved; medians (least to most); load before: {load()}"
    if note:
        yield note
    worst = 0.0
    for net in nets:
        steps = NETS[net][3]
        for count in beside:
            told: dict[str, list[dict]] = {v: [] for v in variants}
            with busy(count):
                for k in range(rounds):
                    for variant in variants[k % len(variants) :] + variants[: k % len(variants)]:
                        told[variant].append(measured(net, variant, limit))
            yield ""
            where = f"beside {count} busy process{'es' * (count > 1)}" if count else "nothing started beside it"
            yield f"{net}, {steps} steps, {where}"
            seconds = {v: [t["seconds"] for t in told[v]] for v in variants}
            for variant in variants:
                own = seconds[variant]
                note = ""
                if any(t["done"] < steps for t in told[variant]):
                    note = f"  (stopped after {limit:g} s, told for all steps)"
                if variant == "auto":
                    chose = sorted({t["chosen"] for t in told[variant]})
                    changes = sum(len(t["changes"]) for t in told[variant])
                    note += f"  chose {', '.join(map(str, chose))}; changed its mind {changes} times"
                label = variant if variant == "auto" else f"{variant} thread{'s' * (variant != '1')}"
                yield f"    {label:<12}{median(own):8.2f} s  ({min(own):.2f} to {max(own):.2f}){note}"
            best = min((v for v in variants if v != "auto"), key=lambda v: median(seconds[v]))
            ratio = median(a / b for a, b in zip(seconds["auto"], seconds[best], strict=True))
            worst = max(worst, ratio)
            yield f"    auto / best fixed ({best}): {ratio:.2f} (median of the rounds' ratios)"
    yield ""
    yield f"goal: at most {GOAL}; worst {worst:.2f}: {'met' if worst <= GOAL else 'not met'}. Load after: {load()}"


def load() -> str:
    """What else runs here: the mean number of processes that want a CPU, of the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds after which a job is stopped")
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--beside", type=int, nargs="+", default=[0, 1], help="numbers of busy processes")
    parser.add_argument("--note", default="", help="a line for the result, e.g. that the machine was shared")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", choices=list(NETS))
    parser.add_argument("--threads", default="auto")
    given = parser.parse_args()
    if given.job:
        job(given.job, given.threads, given.limit)
        return
    command = " ".join(["python benchmarks/threads.py", *(f"'{a}'" if " " in a else a for a in sys.argv[1:])])
    lines = [command]
    for line in table(given.nets, given.rounds, given.limit, given.beside, given.note):
        print(line, flush=True)
        lines.append(line)
        if given.out:  # line by line, so that one that is stopped leaves what it measured
            given.out.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
