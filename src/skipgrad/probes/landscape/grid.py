"""The loss on a grid of weights around a net."""

from __future__ import annotations

import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from skipgrad.core.errors import BadInput, MeasureError
from skipgrad.core.files import unwritable, write_text
from skipgrad.instrument.state import kept
from skipgrad.probes.landscape.directions import Direction, moved

DOING = "measuring a loss landscape"
LINE = tuple(np.linspace(-1, 1, 25))
SAME = 1e-5  # relative: losses of points evaluated at once may differ from those of single ones by rounding alone
# How many points are tried at once; what is worth it, as a share of the time; a try so much slower than single points
# is the last one.
SIZES, GAIN, SLOWER = (9, 25), 0.85, 1.2
ROOM = 256 * 2**20  # bytes that the weights of points evaluated at once may take

_torch: Any = torch  # its foreach functions have no public name
Loss = Callable[[Callable[..., Any]], Tensor]


@dataclass(frozen=True)
class Landscape:
    """Losses on a grid.

    Attributes:
        xs: steps along the first direction, in lengths of the weights.
        ys: along the second; one 0 for a line.
        losses: (len(ys), len(xs)).
        at_once: points evaluated at once, by `torch.func.vmap`; 1 for one after another.
    """

    xs: np.ndarray
    ys: np.ndarray
    losses: np.ndarray
    at_once: int = 1

    def save(self, path: str | Path) -> Path:
        """Writes NPZ, or a VTK structured grid (legacy, ASCII) for ``.vtk``, with the loss as height and as value.

        Raises:
            BadInput: another ending.
            OutputError: it cannot be written.
        """
        path = Path(path)
        if path.suffix == ".npz":
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, xs=self.xs, ys=self.ys, losses=self.losses)
            except OSError as error:
                raise unwritable(path, error, doing="saving a landscape") from error
            return path
        if path.suffix != ".vtk":
            raise BadInput(
                "saving a landscape", where=str(path), received=path.suffix or "no ending", todo=".npz or .vtk"
            )
        points = [
            f"{x:g} {y:g} {z:g}"
            for y, row in zip(self.ys, self.losses, strict=True)
            for x, z in zip(self.xs, row, strict=True)
        ]
        head = "# vtk DataFile Version 3.0\nloss landscape\nASCII\nDATASET STRUCTURED_GRID\n"
        head += f"DIMENSIONS {len(self.xs)} {len(self.ys)} 1\n"
        values = "\n".join(f"{v:g}" for v in self.losses.flatten())
        text = f"{head}POINTS {len(points)} float\n" + "\n".join(points)
        text += f"\nPOINT_DATA {len(points)}\nSCALARS loss float 1\nLOOKUP_TABLE default\n{values}\n"
        return write_text(path, text, doing="saving a landscape")


def landscape(
    model: nn.Module,
    loss: Loss,
    first: Direction,
    second: Direction | None = None,
    *,
    xs: Sequence[float] | np.ndarray = LINE,
    ys: Sequence[float] | np.ndarray | None = None,
    at_once: int | None = None,
    workers: int = 1,
    resume: str | Path | None = None,
    tell: Callable[[int, int], Any] = lambda _done, _total: None,
) -> Landscape:
    """The loss at every point of a grid; model, buffers and random states are left as they were.

    Batch norm uses the statistics its modules hold, in evaluation mode, as in the paper.

    Args:
        model: the net at the middle of the grid.
        loss: called with a function that runs the net with the weights of a point; returns the scalar loss.
        first, second: directions; see `filter_normalised`.
        xs, ys: steps along them.
        at_once: points evaluated at once by `torch.func.vmap`. None tries it on the first row of a plane, and goes on
            with what was faster there; it stays at one after another where vmap refuses the net (or the loss), or
            where the losses are not the same to 1e-5.
        workers: processes that work on rows side by side, one thread each. They are forked, so that net and loss need
            not be picklable; a net on a GPU cannot be shared that way.
        resume: a file in which finished rows are kept; a second call with it goes on where the first ended.
        tell: called with (rows done, rows in all).

    Raises:
        BadInput: a kept file of another grid; fewer than one point at once or worker; several workers for a net on a
            GPU, or where processes cannot be forked.
        MeasureError: a worker died.
    """
    for what, value in (("at_once", at_once), ("workers", workers)):
        if value is not None and value < 1:
            raise BadInput(DOING, where=what, received=str(value), todo="give 1 or more")
    if workers > 1 and any(p.device.type != "cpu" for p in model.parameters()):
        raise BadInput(DOING, where="workers", received="a net that is not on the CPU", todo="leave workers at 1")
    ups = [0.0] if second is None else [float(y) for y in (xs if ys is None else ys)]
    names = [float(x) for x in xs]
    rows = _kept_rows(resume, names, ups)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def keep(row: list[float]) -> None:
        rows.append(row)
        if resume is not None:
            text = json.dumps({"xs": names, "ys": ups, "rows": [[str(v) for v in r] for r in rows]})
            write_text(resume, text, doing=DOING)
        tell(len(rows), len(ups))

    def centre(y: float) -> Direction:
        return weights if second is None else moved(weights, ((y, second),))

    with kept(model, training=dict.fromkeys((n for n, _ in model.named_modules()), False)), torch.no_grad():
        left = ups[len(rows) :]
        if at_once is None and len(left) > 2:
            at_once, row = _tried(model, loss, centre(left[0]), first, names)
            keep(row)
        left = ups[len(rows) :]
        many = at_once or 1
        if workers == 1 or len(left) < 2:
            for y in left:
                keep(_row(model, loss, centre(y), first, names, many))
        else:
            with _forked(workers, lambda y: _row(model, loss, centre(y), first, names, many)) as pool:
                for row in pool.map(_forked_row, left):
                    keep(row)
    return Landscape(np.array(names), np.array(ups), np.array(rows), many)


# What a forked process works with: net and loss come over as they lie in memory, as neither need be picklable.
_TASK: list[Callable[[float], list[float]]] = []


@contextmanager
def _forked(workers: int, task: Callable[[float], list[float]]) -> Iterator[ProcessPoolExecutor]:
    if "fork" not in multiprocessing.get_all_start_methods():
        raise BadInput(DOING, where="workers", received="a system that cannot fork", todo="leave workers at 1")
    _TASK.append(task)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # "multi-threaded": the children take no lock of ours
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(
                workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                yield pool
    except BrokenProcessPool as error:
        raise MeasureError(
            DOING,
            received="a worker that died, as where memory runs out",
            todo="give fewer workers; with resume=FILE the rows that are finished are not lost",
        ) from error
    finally:
        _TASK.pop()


def _forked_row(y: float) -> list[float]:
    with torch.no_grad():
        return _TASK[-1](y)


def _row(
    model: nn.Module, loss: Loss, centre: Direction, first: Direction, xs: Sequence[float], at_once: int
) -> list[float]:
    """The losses of one row."""
    row: list[float] = []
    if at_once == 1:
        with _written(model, centre) as weights:
            for x in xs:
                _torch._foreach_copy_(weights, list(centre.values()))
                along = [(w, first[n]) for n, w in zip(centre, weights, strict=True) if n in first]
                _torch._foreach_add_([w for w, _ in along], [d for _, d in along], alpha=x)
                row.append(float(loss(model)))
        return row
    for begin in range(0, len(xs), at_once):
        steps = torch.tensor(xs[begin : begin + at_once], dtype=torch.float64)
        points = {
            name: w + steps.to(w).view(-1, *[1] * w.dim()) * first[name]
            if name in first
            else w.expand(len(steps), *w.shape)
            for name, w in centre.items()
        }
        found = vmap(lambda point: loss(_runner(model, point)), randomness="same")(points)
        row += [float(v) for v in found]
    return row


@contextmanager
def _written(model: nn.Module, centre: Direction) -> Iterator[list[Tensor]]:
    """The net's own weights, to write into: faster than calling it with others. They are put back, to the bit."""
    own = dict(model.named_parameters())
    weights = [own[name].detach() for name in centre]
    before = [w.clone() for w in weights]
    try:
        yield weights
    finally:
        _torch._foreach_copy_(weights, before)


def _tried(
    model: nn.Module, loss: Loss, centre: Direction, first: Direction, xs: Sequence[float]
) -> tuple[int, list[float]]:
    """How many points to evaluate at once from here on, by the clock, and the losses of this row."""
    begin = time.perf_counter()
    row = _row(model, loss, centre, first, xs, 1)
    single = time.perf_counter() - begin
    size = sum(w.numel() * w.element_size() for w in centre.values())
    best, least = 1, single
    for many in SIZES:
        if many > len(xs) or many * size > ROOM:
            break
        try:
            begin = time.perf_counter()
            found = _row(model, loss, centre, first, xs, many)
            took = time.perf_counter() - begin
        except (RuntimeError, ValueError):  # vmap cannot follow the net: it reads a value, or changes one in place
            break
        if not np.allclose(found, row, rtol=SAME, atol=SAME, equal_nan=True):
            break
        if took < GAIN * least:
            best, least = many, took
        elif took > SLOWER * single:
            break
    return best, row


def _runner(model: nn.Module, point: dict[str, Tensor]) -> Callable[..., Any]:
    return lambda *args, **kwargs: functional_call(model, point, args, kwargs)


@contextmanager
def at(model: nn.Module, steps: tuple[tuple[float, Direction], ...]) -> Iterator[None]:
    """Inside the block the net's own weights are some way along directions."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, value in moved(before, steps).items():
            model.get_parameter(name).copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                model.get_parameter(name).copy_(value)


def _kept_rows(path: str | Path | None, xs: list[float], ys: list[float]) -> list[list[float]]:
    if path is None or not Path(path).exists():
        return []
    try:
        data = json.loads(Path(path).read_text("utf-8"))
        same = data["xs"] == xs and data["ys"] == ys
        rows = [[float(v) for v in row] for row in data["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            DOING, where=str(path), received=f"a file that is no landscape ({error})", todo="name another file"
        ) from error
    if not same:
        raise BadInput(DOING, where=str(path), received="a landscape on another grid", todo="name another file")
    return rows
