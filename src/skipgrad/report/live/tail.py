"""Reads a run file again and again while another process writes it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipgrad.core.run import LayerRow, LossPoint, SkipRow, Trial
from skipgrad.store import Latest, read_latest


@dataclass(frozen=True)
class Frame:
    """A run at one moment.

    Attributes:
        path: the path of the file.
        meta: as `Run.meta`.
        trial: the trial that is training; None before the first.
        trials: how many trials there are.
        losses: the losses of that trial, in order of step; of a long trial evenly spaced ones, with first and last.
        all_losses: whether `losses` has all of them.
        recent: the last losses, without a gap.
        skips: rows of the last step measured, the last backward of each skip.
        layers: rows of the last step measured, in order of depth.
        measured: the trial that `skips` and `layers` are of; the others of a check train without a ledger.
        age: seconds since the file was written to.
    """

    path: Path
    meta: dict[str, Any]
    trial: Trial | None
    trials: int
    losses: tuple[LossPoint, ...]
    all_losses: bool
    recent: tuple[LossPoint, ...]
    skips: tuple[SkipRow, ...]
    layers: tuple[LayerRow, ...]
    measured: Trial | None
    age: float

    @property
    def state(self) -> str:
        """``"running"``, ``"done"``, ``"interrupted"``, ``"failed"``; ``"unknown"`` where the file does not say."""
        return str(self.meta.get("state", "unknown"))

    @property
    def step(self) -> int | None:
        """The last step that left anything."""
        rows = (*self.losses[-1:], *(() if self.measured != self.trial else (*self.skips[:1], *self.layers[:1])))
        return max((r.step for r in rows), default=None)


class RunTail:
    """Looks at a run file as often as it is asked to; reads it only when it has changed.

    No connection stays open in between: an open one would keep the writer from folding its log into the file.

    Args:
        path: the run file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._seen: tuple[tuple[int, int], ...] = ()
        self._run: Latest | None = None

    def read(self) -> Frame:
        """The run as it is committed at this moment.

        Raises:
            RunFileError: a missing file, one that is no run file, a newer schema, a truncated or damaged file.
        """
        stamp = _stamp(self.path)  # before reading: what is written meanwhile is read the next time
        if self._run is None or stamp != self._seen:
            self._run, self._seen = read_latest(self.path), stamp
        written = max((changed for changed, _ in stamp), default=0) / 1e9
        return frame(self._run, self.path, max(0.0, time.time() - written))


def frame(run: Latest, path: Path, age: float) -> Frame:
    """The latest of a run, as it is shown."""
    last = {r.skip: r for r in run.skips}  # of several backwards the last
    return Frame(
        path=path,
        meta=run.meta,
        trial=run.current,
        trials=len(run.trials),
        losses=run.losses,
        all_losses=run.all_losses,
        recent=run.recent,
        skips=tuple(last.values()),
        layers=tuple(sorted(run.layers, key=lambda r: r.depth)),
        measured=run.measured,
        age=age,
    )


def _stamp(path: Path) -> tuple[tuple[int, int], ...]:
    found = []
    for each in (path, path.with_name(path.name + "-wal")):
        with suppress(OSError):  # the log comes and goes; a missing file is `read_latest`'s to tell
            stat = each.stat()
            found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)
