"""What each remedy does to nets of ours, raced against the untreated net under equal budgets.

    python benchmarks/cures.py [--steps 100] [--only postln] [--rows cures.jsonl] [--out cures.txt]

A contestant is a net with or without a remedy, with or without warm-up. Each trains at a third, once and three times
the typed rate (what `skipgrad check` takes when none is given) on seed 0, then at its own best of the three on seeds 1
and 2. It is judged by `skipgrad.race.compare`, as in a check. The untreated net and zero-init also train at the typed
rate on every seed. A trial is a row of a JSON-lines file; rows that are there are not trained again. The table counts
steps: on a machine with other work on it, seconds of trials minutes apart tell of that work.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import machine, versions

from skipgrad.core import Recipe, SkipgradError
from skipgrad.core.run import LossPoint
from skipgrad.models import fit
from skipgrad.race import compare, final_loss, prepare_with, score
from skipgrad.train import TrialResult, train_trial

RATES = (1 / 3, 1.0, 3.0)
SEEDS = (0, 1, 2)
WARM = 0.3  # share of the steps, where there is a warm-up
PLAIN = "untreated"


@dataclass(frozen=True)
class Net:
    """A net, its data and recipe, and who races: (remedy, with warm-up). The first is what the others are judged by."""

    model: str
    args: dict[str, Any]
    data: str
    optimizer: str
    rate: float
    batch_size: int
    contestants: tuple[tuple[str, bool], ...]

    @property
    def name(self) -> str:
        return self.model.removeprefix("skipgrad:") + "".join(f", {k} {v}" for k, v in self.args.items())


def digits(model: str, *remedies: str, **args: Any) -> Net:
    return Net(f"skipgrad:{model}", args, "digits", "sgd", 0.05, 64, tuple((r, False) for r in (PLAIN, *remedies)))


def text(model: str, *contestants: tuple[str, bool]) -> Net:
    return Net(f"skipgrad:{model}", {}, "text", "adamw", 1e-3, 8, contestants)


EDITS, STEERING = ("zero-init", "skip-calibration"), ("gradient-scaling", "gradient-normalization")
NETS = (
    digits("plain20", "add-skips"),
    digits("plain56", "add-skips"),
    digits("resnet56", "zero-init"),
    digits("resnet56", *EDITS, *STEERING, norm="none"),
    text("preln12", (PLAIN, False), ("zero-init", False)),
    text("postln12", *((name, warm) for warm in (True, False) for name in (PLAIN, *EDITS))),
)


class Rows:
    """Trials that were trained, in a file, by what they are."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[tuple[Any, ...], dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                self.known[tuple(row["key"])] = row

    def add(self, key: tuple[Any, ...], row: dict[str, Any]) -> None:
        self.known[key] = row
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **row}) + "\n")


class Race:
    """The trials of one net."""

    def __init__(self, net: Net, steps: int, rows: Rows) -> None:
        self.net, self.rows = net, rows
        self.workload = fit(net.model, net.args, net.data, batch_size=net.batch_size)
        self.settings = Recipe(
            steps=steps,
            batch_size=net.batch_size,
            optimizer=net.optimizer,  # pyright: ignore[reportArgumentType] – Recipe answers a wrong name
            lr=net.rate,
            weight_decay=0.0,
        )

    def trial(self, name: str, warm: bool, rate: float, seed: int) -> TrialResult | str:
        """A trial's result, or why there is none."""
        settings = replace(self.settings, lr=rate, seed=seed, warmup=WARM if warm else 0.0)
        key = (self.net.name, name, warm, float(f"{rate:.4g}"), seed, settings.steps)
        if key not in self.rows.known:
            self.rows.add(key, self._train(name, settings))
        row = self.rows.known[key]
        if row["refused"]:
            return row["refused"]
        points = tuple(LossPoint(0, i, loss, at) for i, (loss, at) in enumerate(row["losses"]))
        record = replace(settings.trial(0, None if name == PLAIN else name), state=row["state"])
        return TrialResult(record, points)

    def _train(self, name: str, settings: Recipe) -> dict[str, Any]:
        began = time.process_time()
        prepare = None if name == PLAIN else prepare_with(name, self.workload)
        try:
            result = train_trial(
                self.workload, settings, trial=settings.trial(0, None if name == PLAIN else name), prepare=prepare
            )
        except SkipgradError as error:
            return {"refused": str(error), "state": "refused", "losses": [], "processor": 0.0}
        losses = [[p.loss, round(p.seconds, 4)] for p in result.losses]
        spent = round(time.process_time() - began, 2)
        return {"refused": "", "state": result.trial.state, "losses": losses, "processor": spent}

    def run(self) -> list[str]:
        """Trains what is not trained yet, contestants in turn, and returns the net's part of the table."""
        tried: dict[tuple[str, bool], list[TrialResult]] = {who: [] for who in self.net.contestants}
        refused: dict[tuple[str, bool], str] = {}

        def turn(rates: dict[tuple[str, bool], float], seed: int) -> dict[tuple[str, bool], TrialResult]:
            done = {}
            for who, rate in rates.items():
                result = self.trial(*who, rate, seed)
                if isinstance(result, str):
                    refused[who] = result
                else:
                    done[who] = result
            return done

        for factor in RATES:
            for who, result in turn(dict.fromkeys(tried, self.net.rate * factor), SEEDS[0]).items():
                tried[who].append(result)
        racing = [who for who in tried if who not in refused]
        best = {who: min(tried[who], key=lambda r: (score(r), r.trial.rate)).trial.rate for who in racing}
        at_best = {who: [r for r in tried[who] if r.trial.rate == best[who]] for who in racing}
        typed = {who: [r for r in tried[who] if r.trial.rate == self.net.rate] for who in racing}
        for seed in SEEDS[1:]:
            for who, result in turn(best, seed).items():
                at_best[who].append(result)
            plain = {who: self.net.rate for who in racing if who[0] in (PLAIN, "zero-init")}
            for who, result in turn(plain, seed).items():
                typed[who].append(result)
        return self._table(at_best, typed, refused)

    def _table(
        self,
        at_best: dict[tuple[str, bool], list[TrialResult]],
        typed: dict[tuple[str, bool], list[TrialResult]],
        refused: dict[tuple[str, bool], str],
    ) -> list[str]:
        first = self.net.contestants[0]
        head = f"{self.net.name}: {self.net.data}, {self.net.optimizer}, typed rate {self.net.rate:g}"
        lines = [f"{head}; judged by {words(first)}"]
        for who in self.net.contestants:
            if who in refused:
                lines.append(f"  {words(who):36} refused: {refused[who]}")
                continue
            results = at_best[who]
            rate, losses = results[0].trial.rate, [final_loss(r) for r in results]
            edge = " (edge)" if rate != self.net.rate else ""
            line = f"  {words(who):36} {f'{rate:.3g}{edge}':15} {spread(losses):27}"
            if who == first:
                line += f" {'1':22} {'–':10}"
            else:
                cure = compare(at_best[first], results, who[0])
                line += f" {ratio(cure.steps_ratio, cure.steps_spread):22} {cure.state:10}"
            if len(typed[who]) == len(SEEDS):
                line += f" {spread([final_loss(r) for r in typed[who]])}"
            lines.append(line.rstrip())
        return lines


def words(who: tuple[str, bool]) -> str:
    return who[0] + (", warm-up" if who[1] else "")


def spread(values: list[float]) -> str:
    return f"{figure(median(values))} [{figure(min(values))}-{figure(max(values))}]"


def ratio(middle: float | None, ends: tuple[float, float] | None) -> str:
    if middle is None:
        return "never"
    return f"{middle:.2f} [{ends[0]:.2f}-{ends[1]:.2f}]" if ends else f"{middle:.2f}"


def figure(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "diverged"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", default="", help="nets with this in their name")
    parser.add_argument("--rows", type=Path, help="file of trials, read and appended to")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    only = f" --only {given.only}" if given.only else ""
    lines = [f"# python benchmarks/cures.py --steps {given.steps}{only}", f"# {machine()}", f"# {versions('torch')}"]
    lines += ["# 1 thread; median [range] over seeds 0, 1, 2; ratios to the first contestant, below 1 is faster"]
    head = f"{'best of 3 rates':15} {'final loss':27} {'steps':22} {'verdict':10}"
    lines += ["", f"  {'contestant':36} {head} final loss at the typed rate"]
    print("\n".join(lines), flush=True)
    rows = Rows(given.rows)
    for net in NETS:
        if given.only in net.name:
            part = ["", *Race(net, given.steps, rows).run()]
            print("\n".join(part), flush=True)
            lines += part
    spent = sum(row["processor"] for row in rows.known.values())
    lines += ["", f"# {len(rows.known)} trials, {spent:.0f} s of one core"]
    print("\n".join(lines[-2:]))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
