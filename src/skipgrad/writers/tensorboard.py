"""``tensorboard``: one scalar for every figure of every skip and layer, by TensorBoard's own writer, without torch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skipgrad.core.errors import OutputError
from skipgrad.core.extras import wanted
from skipgrad.core.run import LayerRow, LossPoint, SkipRow
from skipgrad.writers.base import RowWriter
from skipgrad.writers.registry import WRITERS, WriterEntry
from skipgrad.writers.scalars import scalars

with wanted("tensorboard", "importing skipgrad.writers.tensorboard"), warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what it imports itself
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

# The classes are made at run time from a description, which a type checker cannot see.
_Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
_Summary: Any = summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]
_Metadata: Any = summary_pb2.SummaryMetadata  # pyright: ignore[reportAttributeAccessIssue]
_SCALARS = _Metadata(plugin_data=_Metadata.PluginData(plugin_name="scalars"))


class SummaryWriterLike(Protocol):
    """A writer of yours: torch's ``SummaryWriter``, or anything that has what is used of it."""

    log_dir: Any

    def add_scalar(self, tag: str, scalar_value: Any, global_step: Any = None, /, **how: Any) -> None: ...
    def flush(self) -> None: ...


class TensorBoardWriter(RowWriter):
    """Writes events that ``tensorboard --logdir OUT`` shows.

    Figures are written in double precision: the gradient at the first layer of a deep plain net is below what float32
    holds. `scalars` has the names.

    Args:
        out: the folder of this run's events, which must hold none; or a ``SummaryWriter`` of yours, which stays open.
    """

    def __init__(self, out: str | Path | SummaryWriterLike) -> None:
        self._theirs = None if isinstance(out, str | Path) else out
        self._ours: EventFileWriter | None = None
        self.out = Path(out if isinstance(out, str | Path) else out.log_dir)
        if self._theirs is None and any(self.out.glob("events.out.tfevents.*")):
            raise OutputError(
                "writing for TensorBoard",
                where=str(self.out),
                received="a folder that holds events already (TensorBoard would mix the two runs)",
                todo="pass a folder of its own for each run",
            )

    def write(
        self, step: int, skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]
    ) -> None:
        """Writes the figures of one step."""
        figures = scalars(skips, layers, losses)
        if self._theirs is not None:
            for name, value in figures.items():
                self._theirs.add_scalar(name, value, step, new_style=True, double_precision=True)
            return
        if self._ours is None:
            self._ours = _opened(self.out)
        values = [
            _Summary.Value(tag=n, tensor=make_tensor_proto(np.float64(v)), metadata=_SCALARS)
            for n, v in figures.items()
        ]
        self._ours.add_event(_Event(wall_time=time.time(), step=step, summary=_Summary(value=values)))

    def close(self) -> None:
        """Flushes the events; closes them where they are not yours."""
        if self._theirs is not None:
            self._theirs.flush()
        elif self._ours is not None:
            self._ours.close()
            self._ours = None


def _opened(out: Path) -> EventFileWriter:
    try:
        return EventFileWriter(str(out))
    except OSError as error:
        raise OutputError(
            "writing for TensorBoard",
            where=str(out),
            received=f"{type(error).__name__}: {error.strerror or error}",
            todo="pass a folder that can be written",
        ) from error


WRITERS.register("tensorboard", WriterEntry(TensorBoardWriter, "tensorboard", "tensorboard"))
