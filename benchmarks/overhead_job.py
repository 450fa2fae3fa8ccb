"""One process of overhead.py: times a group of variants on a net, or says how much memory one of them takes.

Started with a job as JSON in its first argument; answers with one line of JSON.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import random
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from machine import forget_peak, peak_bytes, versions
from overhead_groups import GROUPS, Group, applies
from overhead_nets import build
from overhead_variants import Variant

_WARM = 3


class Clock:
    """Takes the time of steps: wall clock, and seconds of the processor that this process used.

    On a GPU the wall clock stops when the device has done what it was given. The steps of a round are timed as one
    there, so that the processor can run ahead of the device as it does in training.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device if torch.device(device).type == "cuda" else None

    def _now(self) -> tuple[float, float]:
        if self.cuda:
            torch.cuda.synchronize(self.cuda)
        return time.perf_counter(), time.process_time()

    def take(self, step: Callable[[], object], times: int) -> tuple[float, float]:
        """(wall seconds, processor seconds) of `times` steps."""
        wall, processor = self._now()
        for _ in range(times):
            step()
        after = self._now()
        return after[0] - wall, after[1] - processor


class Steps(Protocol):
    """What `interleave` runs."""

    def step(self) -> None:
        """One training step."""


def interleave(
    variants: dict[str, Steps], clock: Any, rounds: int, steps: int, turn: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, str]]:
    """Lets variants take turns, in an order shuffled anew each time.

    Args:
        variants: what takes turns, by name; one that fails takes no further part.
        clock: a `Clock`.
        rounds: how often every variant takes `steps` steps.
        steps: of each variant in a round.
        turn: steps taken and timed at once; divides `steps`.

    Returns:
        Per variant and round the seconds of one step (wall, processor), the mean of the round's; and why a variant
        failed. Of one that failed there are no seconds.
    """
    shuffle = random.Random(0)
    left = dict(variants)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in left}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in left}
        for _ in range(steps // turn):
            for name in shuffle.sample(list(left), len(left)):
                try:
                    taken[name].append(clock.take(left[name].step, turn))
                except Exception as error:  # noqa: BLE001 - a peer's own failure is a result of this benchmark
                    failed[name] = reason(error)
                    del left[name], times[name]
        for name in left:
            times[name].append((sum(t[0] for t in taken[name]) / steps, sum(t[1] for t in taken[name]) / steps))
    return times, failed


def reason(error: Exception, module: str | None = None) -> str:
    """Why a variant did not run, in a line; `module` is what its peer is imported as."""
    if isinstance(error, ModuleNotFoundError) and module and importlib.util.find_spec(module) is None:
        return "not installed"
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first if len(first) <= 110 else first[:109] + '…'}"


def started(group: Group, batch: Any, again: bool = True) -> tuple[dict[str, Variant], dict[str, str]]:
    """The variants of a group, warmed up, each with a copy of the model; and why one did not start.

    Args:
        group: whose variants.
        batch: the model, its inputs and its labels.
        again: whether there is a second plain one.
    """
    ready: dict[str, Variant] = {}
    failed: dict[str, str] = {}
    for name, entry in group.variants.items():
        model, x, y = batch
        if not applies(entry, lambda model=model: copy.deepcopy(model)) or (name == "plain again" and not again):
            continue
        try:
            variant = entry.make((copy.deepcopy(model), x, y), group.compiled)
            before = [p.detach().clone() for p in variant.model.parameters()]
            for _ in range(_WARM):
                variant.step()
            if all(map(torch.equal, before, variant.model.parameters())):
                raise RuntimeError("no weight has moved: this is no training step")
            ready[name] = variant
        except Exception as error:  # noqa: BLE001 - a peer's own failure is a result of this benchmark
            failed[name] = reason(error, group.module)
    return ready, failed


def timed(job: dict[str, Any]) -> dict[str, Any]:
    """Times a group: ``rows`` with the seconds of each round, ``failed`` with the reasons."""
    begun = time.perf_counter()
    group = GROUPS[job["group"]]
    if group.compiled and job["device"] == "cpu" and not cxx():
        return {"rows": [], "failed": dict.fromkeys(group.variants, "torch.compile needs a C++ compiler; none found")}
    batch = build(job["net"], job["smoke"], job["device"])
    variants, failed = started(group, batch, job.get("again", True))
    ready = time.perf_counter()
    turn = group.steps if group.together or job["device"].startswith("cuda") else 1
    times, later = interleave(dict(variants), Clock(job["device"]), job["rounds"], group.steps, turn)
    done = time.perf_counter()
    failed |= later
    rows = []
    for name, seconds in times.items():
        entry = group.variants[name]
        try:
            gave = variants[name].gave()
        except Exception as error:  # noqa: BLE001 - as above
            failed[name] = reason(error)
            continue
        wall, processor = ([t[k] for t in seconds] for k in (0, 1))
        row = {"variant": name, "baseline": entry.baseline, "goal": entry.goal, "gave": gave}
        rows.append({**row, "wall": wall, "processor": processor})
    for variant in variants.values():
        variant.close()
    weights = sum(p.numel() for p in batch[0].parameters())
    return {
        "rows": rows,
        "failed": {name: failed[name] for name in group.variants if name in failed},
        "weights": weights,
        "start_s": ready - begun,
        "rounds_s": done - ready,
        "versions": versions(*group.packages).partition(", ")[2],
        "device": torch.cuda.get_device_name(job["device"]) if job["device"].startswith("cuda") else "cpu",
    }


def cxx() -> str | None:
    """The C++ compiler that torch.compile would use on a CPU."""
    asked = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [asked] if asked else ["g++", "clang++", "c++"])), None)


# -- memory --------------------------------------------------------------------------------------------------------


def live_peak(run: Callable[[], object]) -> int:
    """The most bytes of torch's CPU tensors alive at one time while `run` ran, of those made in it.

    Told by torch's own allocator, which reports every block that it hands out and takes back to the profiler; the
    caching of the C library and what Python itself takes are not in it.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        run()
    results: Any = profiler.profiler.kineto_results  # type: ignore[union-attr]
    blocks = [e for e in results.events() if e.name() == "[memory]"]
    live = peak = 0
    for block in sorted(blocks, key=lambda e: e.start_ns()):
        live += block.nbytes()
        peak = max(peak, live)
    if not blocks:
        raise RuntimeError("torch.profiler reported no allocation at all")
    return peak


def remembered(job: dict[str, Any]) -> dict[str, Any]:
    """The peak of one variant's memory over a few steps, building it included: ``bytes``, and ``before`` it began.

    ``job["memory"]`` says of what: ``resident``, of the process as the kernel sees it; ``live``, of torch's tensors.
    """
    entry = GROUPS[job["group"]].variants[job["variant"]]
    given: list[Variant] = []

    def loop() -> None:
        # As in a user's loop there is one model, which the variant keeps: no copy.
        variant = entry.make(build(job["net"], job["smoke"], job["device"]))
        for _ in range(job["steps"]):
            variant.step()
        given.append(variant)

    try:
        # On tensors without memory: what is imported for the net is no part of the figures, and leaves no gaps.
        with torch.device("meta"):
            model = build(job["net"], job["smoke"], "meta")[0]
        if not applies(entry, lambda: model):
            return {}
        before = 0
        if job["device"].startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(job["device"])
            loop()
            peak = torch.cuda.max_memory_allocated(job["device"])
        elif job["memory"] == "live":
            peak = live_peak(loop)
        else:
            forget_peak()
            before = resident_bytes()
            loop()
            peak = peak_bytes()
        gave = given[0].gave()
        given[0].close()
    except Exception as error:  # noqa: BLE001 - a peer's own failure is a result of this benchmark
        return {"failed": reason(error, GROUPS[job["group"]].module)}
    return {"bytes": peak, "before": before, "gave": gave}


def resident_bytes() -> int:
    """What this process has resident now; 0 where the kernel does not say."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def main(arguments: Sequence[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints is no answer
    warnings.simplefilter("ignore")
    job = json.loads(arguments[0])
    torch.set_num_threads(job["threads"])
    answers.write(json.dumps(remembered(job) if job["memory"] else timed(job)) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
