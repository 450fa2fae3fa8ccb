"""D, what a step changes of the branches, at rates from a hundredth to a hundred times a typed one.

``python benchmarks/change.py`` prints a table: for each net and rate the median D of the looks at the full rate, and
the loss before and after. The thresholds of SG014 are held against it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from statistics import median

from machine import machine, versions

from skipgrad.core import ChangeRow, Recipe
from skipgrad.models import fit
from skipgrad.race import find_skips
from skipgrad.remedies import changes
from skipgrad.train import train_trial

TEXT = Recipe(steps=60, batch_size=8, optimizer="adamw", lr=1e-3)
IMAGES = Recipe(steps=60, batch_size=32, optimizer="sgd", lr=0.05)
NETS = (
    ("skipgrad:preln6", {}, "text", TEXT),
    ("skipgrad:postln6", {}, "text", TEXT),
    ("skipgrad:resnet20", {}, "digits", IMAGES),
    ("skipgrad:resnet20", {"norm": "none"}, "digits", IMAGES),
    ("skipgrad:preresnet20", {}, "digits", replace(IMAGES, optimizer="adam", lr=1e-3)),
    ("torchvision:resnet18", {}, "digits", replace(IMAGES, steps=30, batch_size=16)),
)
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)


def row(ref: str, args: dict, data: str, recipe: Recipe) -> str:
    """One net at one rate."""
    workload = fit(ref, args, data, batch_size=recipe.batch_size)
    graph = find_skips(workload.build(), workload)
    rows: list[ChangeRow] = []

    @contextmanager
    def observe(model, optimizer):
        with changes(model, graph, optimizer, every=5, told=rows.append):
            yield

    losses = [p.loss for p in train_trial(workload, recipe, observe=observe).losses]
    top = max(r.rate for r in rows)
    near = [r.change * top / r.rate for r in rows if r.rate >= top / 2]
    last = losses[-5:]
    return f"D {median(near):<9.3g} loss {losses[0]:.3f} to {sum(last) / len(last):.3f}"


def main() -> None:
    print(f"python benchmarks/change.py\n{machine()}; {versions('torch')}; seed 0, one thread")
    for ref, args, data, recipe in NETS:
        print(f"\n{ref} {args or ''} on {data}, {recipe.optimizer}, {recipe.steps} steps")
        for factor in FACTORS:
            rate = recipe.rate * factor
            print(f"  rate {rate:<8g} {row(ref, args, data, replace(recipe, lr=rate))}", flush=True)


if __name__ == "__main__":
    main()
