"""The loss on a grid of weights around a net."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from skipgrad.core.errors import BadInput
from skipgrad.core.files import write_text
from skipgrad.instrument.state import kept
from skipgrad.probes.landscape.directions import Direction, moved

DOING = "measuring a loss landscape"
LINE = tuple(np.linspace(-1, 1, 25))


@dataclass(frozen=True)
class Landscape:
    """Losses on a grid.

    Attributes:
        xs: steps along the first direction, in lengths of the weights.
        ys: along the second; one 0 for a line.
        losses: (len(ys), len(xs)).
    """

    xs: np.ndarray
    ys: np.ndarray
    losses: np.ndarray

    def save(self, path: str | Path) -> Path:
        """Writes NPZ, or a VTK structured grid (legacy, ASCII) for ``.vtk``, with the loss as height and as value.

        Raises:
            BadInput: another ending.
            OutputError: it cannot be written.
        """
        path = Path(path)
        if path.suffix == ".npz":
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, xs=self.xs, ys=self.ys, losses=self.losses)
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
    loss: Callable[[Callable[..., Any]], Tensor],
    first: Direction,
    second: Direction | None = None,
    *,
    xs: Sequence[float] | np.ndarray = LINE,
    ys: Sequence[float] | np.ndarray | None = None,
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
        resume: a file in which finished rows are kept; a second call with it goes on where the first ended.
        tell: called with (rows done, rows in all).

    Raises:
        BadInput: a kept file of another grid.
    """
    ups = [0.0] if second is None else [float(y) for y in (xs if ys is None else ys)]
    names = [float(x) for x in xs]
    rows = _kept_rows(resume, names, ups)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    with kept(model, training=dict.fromkeys((n for n, _ in model.named_modules()), False)), torch.no_grad():
        for k, y in enumerate(ups):
            if k < len(rows):
                continue
            row = []
            for x in names:
                steps = ((x, first),) if second is None else ((x, first), (y, second))
                point = moved(weights, steps)
                row.append(float(loss(_runner(model, point))))
            rows.append(row)
            if resume is not None:
                write_text(
                    resume,
                    json.dumps({"xs": names, "ys": ups, "rows": [[str(v) for v in r] for r in rows]}),
                    doing=DOING,
                )
            tell(k + 1, len(ups))
    return Landscape(np.array(names), np.array(ups), np.array(rows))


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
