"""TensorBoard: one scalar for every figure of every skip and layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skipgrad.core.errors import MissingExtra, OutputError
from skipgrad.core.run import LayerRow, LossPoint, SkipRow
from skipgrad.integrations.writers.base import RowWriter
from skipgrad.integrations.writers.scalars import scalars

try:
    from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportPrivateImportUsage]
except ModuleNotFoundError as error:
    raise MissingExtra(
        "importing skipgrad.integrations.writers.tensorboard",
        received=f"the library {error.name!r} is not installed",
        todo="pip install 'skipgrad[tensorboard]'",
    ) from error


class TensorBoardWriter(RowWriter):
    """Writes events that ``tensorboard --logdir OUT`` shows.

    Figures are written in double precision: the gradient at the first layer of a deep plain net is below what float32
    holds. `scalars` has the names.

    Args:
        out: the folder of this run's events, which must hold none; or a ``SummaryWriter`` of yours, which stays open.
    """

    def __init__(self, out: str | Path | SummaryWriter) -> None:
        self._theirs = isinstance(out, SummaryWriter)
        self._events: SummaryWriter | None = out if isinstance(out, SummaryWriter) else None
        self.out = Path(out.log_dir if isinstance(out, SummaryWriter) else out)
        if not self._theirs and any(self.out.glob("events.out.tfevents.*")):
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
        if self._events is None:
            self._events = _opened(self.out)
        for name, value in scalars(skips, layers, losses).items():
            self._events.add_scalar(name, value, step, new_style=True, double_precision=True)

    def close(self) -> None:
        """Flushes the events; closes them where they are not yours."""
        if self._events is None:
            return
        self._events.flush()
        if not self._theirs:
            self._events.close()
            self._events = None


def _opened(out: Path) -> SummaryWriter:
    try:
        return SummaryWriter(str(out))
    except OSError as error:
        raise OutputError(
            "writing for TensorBoard",
            where=str(out),
            received=f"{type(error).__name__}: {error.strerror or error}",
            todo="pass a folder that can be written",
        ) from error
