"""What a training step of our blocks and forms costs, against the same shapes elsewhere.

    python benchmarks/step.py [--cases NAME …] [--rounds 20] [--threads 1] [--compiled] [--smoke] [--out FILE]

In each case the variants, the plain one of them twice, take turns: a round is one step of each, in an order shuffled
anew, on the same batch and with SGD. Printed per variant: the median time of a step; median and quartiles of its ratio
to the first variant's step of the same round; and the goal, ``met`` or ``missed`` where the 95 % interval of the median
lies on one side of it.
``again`` is the first variant once more: what that row shows is the noise.

x-transformers is no dependency; where it is not installed the transformer is compared with torch's own encoder.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import machine, versions
from step_nets import CASES, Case
from torch import nn

STEPS_OF_WARM_UP = 2


def step_of(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """A training step on one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        model(x).float().pow(2).mean().backward()
        optimizer.step()

    return step


def interval(values: list[float]) -> tuple[float, float]:
    """A 95 % interval of the median, by order statistics."""
    ordered, n = sorted(values), len(values)
    reach = int(0.98 * n**0.5) + 1
    return ordered[max(0, n // 2 - reach)], ordered[min(n - 1, n // 2 + reach)]


def quantile(values: list[float], q: float) -> float:
    """A quantile, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def measure(case: Case, rounds: int, compiled: bool) -> list[str]:
    """The lines of one case."""
    torch.manual_seed(0)
    variants = case.make()
    first = next(iter(variants))
    variants["again"] = case.make()[first]
    steps: dict[str, Callable[[], None]] = {}
    for name, (model, x) in variants.items():
        steps[name] = step_of(torch.compile(model) if compiled else model, x)  # type: ignore[arg-type]
        for _ in range(STEPS_OF_WARM_UP):
            steps[name]()
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)
    for _ in range(rounds):
        names = list(steps)
        order.shuffle(names)
        for name in names:
            start = time.perf_counter()
            steps[name]()
            times[name].append(time.perf_counter() - start)
    lines = [f"{case.title}; ratios to {first}"]
    for name, seconds in times.items():
        ratios = [s / f for s, f in zip(seconds, times[first], strict=True)]
        goal = case.goals.get(name)
        verdict = ""
        if goal is not None:
            low, high = interval(ratios)
            verdict = f"  goal ≤ {goal:.2f}: " + ("met" if high <= goal else "missed" if low > goal else "open")
        lines.append(
            f"  {name:34} {1e3 * quantile(seconds, 0.5):8.1f} ms  × {quantile(ratios, 0.5):.3f}"
            f"  ({quantile(ratios, 0.25):.3f} – {quantile(ratios, 0.75):.3f}){verdict}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="two rounds of everything")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rounds = 2 if given.smoke else given.rounds
    head = [
        f"# python benchmarks/step.py {' '.join(sys.argv[1:])}",
        f"# {machine()}; {given.threads} thread",
        f"# {versions('torch', 'torchvision', 'timm', 'x-transformers')}",
        f"# median of {rounds} interleaved rounds; quartiles in brackets",
    ]
    lines = [*head]
    for name in given.cases:
        started = time.monotonic()
        lines += ["", *measure(CASES[name], rounds, given.compiled)]
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
