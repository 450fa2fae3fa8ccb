"""The landscape probe beside loss-landscapes, landscaper and PyHessian: the same grids, the same eigenvalues, the time.

Every peer draws its plane by its own function; ours then takes the loss at the same 25 × 25 points, and the losses have
to be equal. Runs are interleaved, each is run once before the clock. A peer that is not installed is named and left
out. landscaper's package wants libraries that its grid does not need: the grid is loaded from its file.

    pip install --no-deps loss-landscapes landscaper pyhessian tqdm
    OMP_NUM_THREADS=1 python benchmarks/landscape.py --rounds 5 --out benchmarks/results/DATE-landscape.txt
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import io
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from machine import machine, versions
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from skipgrad.instrument.cpus import allowed_cpus
from skipgrad.instrument.seeding import seed_all
from skipgrad.models import fit
from skipgrad.probes.landscape import Direction, Landscape, extreme_eigenvalues, filter_normalised, landscape

POINTS, IMAGES = 25, 64
FASTER, SAME, SAME_EIGENVALUE = 2.0, 1e-5, 1e-3
NETS = {
    "resnet20 of width 8": ("skipgrad:resnet20", {"width": 8}),
    "plain20 of width 8": ("skipgrad:plain20", {"width": 8}),
    "a transformer of 4 layers": ("skipgrad:preln4", {}),
}


class Case:
    """A net on a batch, in evaluation mode, and two directions."""

    def __init__(self, name: str) -> None:
        reference, args = NETS[name]
        data = "text" if "preln" in reference else "digits"
        self.workload = fit(reference, dict(args), data, batch_size=IMAGES if data == "digits" else 8)
        seed_all(0)
        self.model = self.workload.build()
        self.batch = next(self.workload.batches(0))
        with torch.no_grad():
            for _ in range(10):  # so that batch norm's statistics are the data's
                self.model(*self.batch.args)
        self.model.eval()
        self.x, self.y = self.batch.args[0], self.batch.target
        self.one, self.two = (filter_normalised(self.model, s, ignore="none") for s in (1, 2))

    def loss_of(self, output: Tensor) -> Tensor:
        return self.workload.loss(output, self.batch)

    def ours(self, one: Direction, two: Direction, xs: np.ndarray, ys: np.ndarray, workers: int = 1) -> Landscape:
        return landscape(self.model, lambda run: self.loss_of(run(self.x)), one, two, xs=xs, ys=ys, workers=workers)


class LossLandscapes:
    """`loss_landscapes.planar_interpolation` from the grid's corner."""

    name, package = "loss-landscapes", "loss_landscapes"
    axis = np.linspace(-1, 1, POINTS)

    def __init__(self, case: Case) -> None:
        self.case, self.step = case, float(self.axis[1] - self.axis[0])
        corner = {n: self.axis[0] * (case.one[n] + case.two[n]) for n in case.one}
        self.start = moved(case.model, corner)
        self.ends = [
            moved(case.model, {n: corner[n] + POINTS * self.step * d[n] for n in corner}) for d in (case.one, case.two)
        ]

    def run(self) -> np.ndarray:
        from loss_landscapes import planar_interpolation
        from loss_landscapes.metrics import Loss

        case = self.case
        metric = Loss(lambda output, _target: case.loss_of(output), case.x, case.y)
        with torch.no_grad():
            return planar_interpolation(self.start, *self.ends, metric, steps=POINTS, deepcopy_model=True)

    def ours(self, workers: int = 1) -> Landscape:
        return self.case.ours(self.case.two, self.case.one, self.axis, self.axis, workers)

    def same(self, theirs: np.ndarray) -> float:
        # Its even rows are a step further along the second direction than its odd ones: it steps before it looks.
        wide = np.append(self.axis, self.axis[-1] + self.step)
        mine = self.case.ours(self.case.two, self.case.one, wide, self.axis).losses
        shifted = np.array([row[1:] if i % 2 == 0 else row[:-1] for i, row in enumerate(mine)])
        return farthest(shifted, theirs)


class Landscaper:
    """`landscaper.compute.compute_loss_landscape`, in the directions that it makes of ours."""

    name, package = "landscaper", "landscaper"

    def __init__(self, case: Case) -> None:
        self.case, self.compute = case, grid_of_landscaper()
        weights = [p.detach() for p in case.model.parameters()]
        size = self.compute.get_model_norm(weights)
        self.directions = []
        for d in (case.one, case.two):
            given = self.compute.normalize_direction([v.clone() for v in d.values()], weights)
            self.compute.scale_direction(given, size / (POINTS / 2) / self.compute.get_model_norm(given))
            self.directions.append(dict(zip(d, given, strict=True)))
        self.axis = np.arange(POINTS, dtype=float) - POINTS // 2

    def run(self) -> np.ndarray:
        case = self.case
        given = [[v.clone() for v in d.values()] for d in (case.one, case.two)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            losses, _ = self.compute.compute_loss_landscape(
                case.model,
                case.x,
                given,
                lambda model, x: float(case.loss_of(model(x))),
                steps=POINTS,
                distance=1.0,
                dim=2,
                device="cpu",
            )
        return losses

    def ours(self, workers: int = 1) -> Landscape:
        return self.case.ours(self.directions[1], self.directions[0], self.axis, self.axis, workers)

    def same(self, theirs: np.ndarray) -> float:
        mine = self.ours().losses
        top = mine == mine.max()  # it adds noise to its highest point
        return farthest(np.where(top, 0.0, mine), np.where(top, 0.0, theirs))


class ByHand:
    """A plain loop of one's own: weights written in place, a forward, weights put back at the end."""

    name, package = "a loop by hand", "torch"
    axis = np.linspace(-1, 1, POINTS)

    def __init__(self, case: Case) -> None:
        self.case = case

    def run(self) -> np.ndarray:
        case = self.case
        weights = dict(case.model.named_parameters())
        before = {n: p.detach().clone() for n, p in weights.items()}
        losses = np.zeros((POINTS, POINTS))
        with torch.no_grad():
            for i, b in enumerate(self.axis):
                for j, a in enumerate(self.axis):
                    for name, p in weights.items():
                        p.copy_(before[name] + float(a) * case.one[name] + float(b) * case.two[name])
                    losses[i, j] = float(case.loss_of(case.model(case.x)))
            for name, p in weights.items():
                p.copy_(before[name])
        return losses

    def ours(self, workers: int = 1) -> Landscape:
        return self.case.ours(self.case.one, self.case.two, self.axis, self.axis, workers)

    def same(self, theirs: np.ndarray) -> float:
        return farthest(self.ours().losses, theirs)


def moved(model: nn.Module, by: Direction) -> nn.Module:
    """A copy some way off."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, p in twin.named_parameters():
            p.add_(by[name])
    return twin


def farthest(a: np.ndarray, b: np.ndarray) -> float:
    """The largest relative difference."""
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-12)))


def grid_of_landscaper() -> Any:
    """landscaper's compute.py without its package's __init__."""
    folder = Path(importlib.util.find_spec("landscaper").origin).parent  # type: ignore[union-attr,arg-type]
    for name in ("utils", "compute"):
        full = f"landscaper_grid.{name}"
        if full not in sys.modules:
            parent = importlib.util.spec_from_loader("landscaper_grid", None, is_package=True)
            sys.modules.setdefault("landscaper_grid", importlib.util.module_from_spec(parent))  # type: ignore[arg-type]
            spec = importlib.util.spec_from_file_location(full, folder / f"{name}.py")
            sys.modules[full] = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
            spec.loader.exec_module(sys.modules[full])  # type: ignore[union-attr]
    return sys.modules["landscaper_grid.compute"]


def clocked(run: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    out = run()
    return time.perf_counter() - begin, out


def grids(rounds: int, workers: int) -> Iterator[str]:
    worst = dict.fromkeys(sorted({1, workers}), float("inf"))
    for name in NETS:
        case = Case(name)
        yield ""
        yield f"{name}, {POINTS} × {POINTS} points"
        for kind in (LossLandscapes, Landscaper, ByHand):
            if importlib.util.find_spec(kind.package) is None:
                yield f"    {kind.name:<18} is not installed: left out"
                continue
            peer = kind(case)
            difference = peer.same(peer.run())
            peer.ours()
            runs = {"peer": peer.run} | {n: partial(peer.ours, n) for n in sorted({1, workers})}
            took: dict[Any, list[float]] = {who: [] for who in runs}
            at_once = 1
            for k in range(rounds):
                for who in (list(runs)[k % len(runs) :]) + list(runs)[: k % len(runs)]:
                    seconds, found = clocked(runs[who])
                    took[who].append(seconds)
                    at_once = getattr(found, "at_once", at_once)
            yield (
                f"    {kind.name:<18}{median(took['peer']):7.2f} s; ours takes {at_once} points at once; losses differ "
                f"by at most {difference:.1e}{'' if difference <= SAME else ', MORE THAN ' + str(SAME)}"
            )
            for n in list(runs)[1:]:
                ratios = [a / b for a, b in zip(took["peer"], took[n], strict=True)]
                if kind is not ByHand:
                    worst[n] = min(worst[n], median(ratios))
                yield (
                    f"      ours, {n} process{'es' * (n > 1)}: {median(took[n]):6.2f} s, {median(ratios):.2f} × faster "
                    f"({min(ratios):.2f} to {max(ratios):.2f})"
                )
    yield ""
    for n, least in worst.items():
        met = "met" if least >= FASTER else "not met"
        yield f"goal: {FASTER:g} × faster than both packages; with {n} process{'es' * (n > 1)} least {least:.2f}: {met}"


def eigenvalues(rounds: int, _workers: int) -> Iterator[str]:
    yield ""
    yield "largest eigenvalue of the Hessian"
    if importlib.util.find_spec("pyhessian") is None:
        yield "    PyHessian is not installed: left out"
        return
    from pyhessian import hessian

    for name in NETS:
        case = Case(name)

        def theirs(case: Case = case) -> float:
            with sdpa_kernel(SDPBackend.MATH):  # it fails with the fused ones, which have no second derivative
                found = hessian(case.model, lambda out, _y: case.loss_of(out), data=(case.x, case.y), cuda=False)
            value = found.eigenvalues(maxIter=1000, tol=1e-6, top_n=1)[0][0]
            case.model.zero_grad()
            return float(value)

        def ours(case: Case = case) -> float:
            ends = extreme_eigenvalues(case.model, lambda: case.loss_of(case.model(case.x)), steps=60, tolerance=1e-4)
            return ends.high if ends.high >= -ends.low else ends.low

        ours(), theirs()
        a, b = zip(*((clocked(theirs), clocked(ours)) for _ in range(rounds)), strict=True)
        ratios = [t[0] / o[0] for t, o in zip(a, b, strict=True)]
        difference = max(abs(t[1] - o[1]) / abs(t[1]) for t, o in zip(a, b, strict=True))
        yield (
            f"    {name:<26} PyHessian {median(t for t, _ in a):6.2f} s, ours {median(t for t, _ in b):5.2f} s (both "
            f"ends): {median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f}); differ by at most "
            f"{difference:.1e}{'' if difference <= SAME_EIGENVALUE else ', MORE THAN ' + str(SAME_EIGENVALUE)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=allowed_cpus(), help="of ours, beside one; peers have none")
    parser.add_argument("--parts", nargs="+", choices=["grids", "eigenvalues"], default=["grids", "eigenvalues"])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = ["python benchmarks/landscape.py " + " ".join(sys.argv[1:]), machine(), versions("torch", "skipgrad")]
    print("\n".join(lines))
    for part in (p for p in (grids, eigenvalues) if p.__name__ in given.parts):
        for line in part(given.rounds, given.workers):
            print(line, flush=True)
            lines.append(line)
            if given.out:
                given.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
