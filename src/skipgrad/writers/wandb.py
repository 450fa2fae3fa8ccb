"""``wandb``: Weights & Biases, offline: a run in a folder, which ``wandb sync`` uploads if and when you want it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skipgrad.core.errors import OutputError
from skipgrad.core.extras import wanted
from skipgrad.core.run import LayerRow, LossPoint, SkipRow
from skipgrad.writers.base import RowWriter
from skipgrad.writers.registry import WRITERS, WriterEntry
from skipgrad.writers.scalars import scalars

with wanted("wandb", "importing skipgrad.writers.wandb"):
    import wandb

STEP = "skipgrad_step"  # the axis: the tracker's own counts the calls of `log`, ours and yours


class WandbWriter(RowWriter):
    """Logs to an offline run; nothing is sent anywhere.

    Charts have ``skipgrad_step`` as their axis. `scalars` has the names of the figures.

    Args:
        out: the folder in which ``wandb/offline-run-…`` is made; or a run of yours, which stays open (and is online if
            you made it so).
        project: its project.
        name: its name.
        config: what was run, shown as the run's config.
    """

    def __init__(
        self,
        out: str | Path | wandb.Run,
        *,
        project: str = "skipgrad",
        name: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self._run: wandb.Run | None = out if isinstance(out, wandb.Run) else None
        self._theirs = self._run is not None
        self.out = Path(out.dir if isinstance(out, wandb.Run) else out)
        self._project, self._name, self._config = project, name, config
        if self._run is not None:
            _axis(self._run)

    def write(
        self, step: int, skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]
    ) -> None:
        """Logs the figures of one step."""
        if self._run is None:
            self._run = self._opened()
            _axis(self._run)
        self._run.log({STEP: step, **scalars(skips, layers, losses)})

    def close(self) -> None:
        """Finishes the run where it is not yours."""
        if self._run is not None and not self._theirs:
            self._run.finish()
            self._run = None

    def _opened(self) -> wandb.Run:
        try:
            # Else it falls back to a temporary folder, with a warning that nobody reads.
            (self.out / "wandb").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                "writing for Weights & Biases",
                where=str(self.out),
                received=f"{type(error).__name__}: {error.strerror}",
                todo="pass a folder that can be written",
            ) from error
        # What it would collect besides what it is given: the console, the code, the machine.
        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        return wandb.init(
            project=self._project,
            name=self._name,
            dir=str(self.out),
            mode="offline",
            config=self._config,
            reinit="create_new",
            settings=quiet,
        )


def _axis(run: wandb.Run) -> None:
    run.define_metric(STEP)
    for name in ("skip.*", "layer.*", "loss", "seconds"):
        run.define_metric(name, step_metric=STEP)


WRITERS.register("wandb", WriterEntry(WandbWriter, "wandb", "wandb", keeps_config=True))
