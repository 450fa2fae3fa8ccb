"""``mlflow``: metrics of a run, in a local SQLite file unless you name another store."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skipgrad.core.errors import OutputError
from skipgrad.core.extras import wanted
from skipgrad.core.run import LayerRow, LossPoint, SkipRow
from skipgrad.writers.base import RowWriter
from skipgrad.writers.registry import WRITERS, WriterEntry
from skipgrad.writers.scalars import scalars

with wanted("mlflow", "importing skipgrad.writers.mlflow"):
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

FILE = "mlflow.db"
NAMES = "skipgrad.name."  # a tag of the run: the name as it was, of a metric that MLflow lets be called otherwise
_ILLEGAL = re.compile(r"[^/\w.\- ]")  # its own rule, less the colon, which it forbids on Windows
_MOST, _LONGEST = 1000, 500  # metrics of one call; characters of a param


class MlflowWriter(RowWriter):
    """Logs metrics to a run of its own; ``mlflow ui --backend-store-uri sqlite:///OUT/mlflow.db`` shows it.

    `scalars` has the names. MLflow allows letters, digits and ``_ . - /`` in them: ``layer#2`` becomes ``layer_2``, and
    the run's tag ``skipgrad.name.…`` says what it was. An infinity is stored as the largest double.

    Args:
        out: the folder for ``mlflow.db`` and artifacts; or the address of a tracking store (with ``://``), which may be
            one of yours in the network.
        experiment: the experiment, made when missing.
        name: the run's name.
        config: what was run, stored as params.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        experiment: str = "skipgrad",
        name: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.out = None if "://" in str(out) else Path(out)
        self.uri = str(out) if self.out is None else f"sqlite:///{self.out.resolve() / FILE}"
        self.run_id = ""
        self._experiment, self._name, self._config = experiment, name, config or {}
        self._client: MlflowClient | None = None
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()

    def write(
        self, step: int, skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]
    ) -> None:
        """Logs the figures of one step."""
        with self._telling():
            client = self._client = self._client or self._opened()
            now = int(1000 * time.time())
            figures = scalars(skips, layers, losses).items()
            metrics = [Metric(self._legal(client, name), value, now, step) for name, value in figures]
            for start in range(0, len(metrics), _MOST):
                client.log_batch(self.run_id, metrics=metrics[start : start + _MOST])

    def close(self) -> None:
        """Marks the run as finished."""
        if self._client is not None:
            with self._telling():
                self._client.set_terminated(self.run_id)
            self._client = None

    def _opened(self) -> MlflowClient:
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
        # It tells of every table it creates.
        log = logging.getLogger("mlflow.store.db.utils")
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            client = MlflowClient(tracking_uri=self.uri)
            known = client.get_experiment_by_name(self._experiment)
        finally:
            log.setLevel(level)
        # Else artifacts would go to the folder one happens to be in.
        place = None if self.out is None else (self.out.resolve() / "artifacts").as_uri()
        experiment = known.experiment_id if known else client.create_experiment(self._experiment, place)
        self.run_id = client.create_run(experiment, run_name=self._name).info.run_id
        params = [Param(_ILLEGAL.sub("_", str(k)), str(v)[:_LONGEST]) for k, v in self._config.items()]
        client.log_batch(self.run_id, params=params)
        return client

    def _legal(self, client: MlflowClient, name: str) -> str:
        if name not in self._names:
            legal = base = _ILLEGAL.sub("_", name)
            count = 1
            while legal in self._taken:  # two names that differ in what is not allowed only
                count += 1
                legal = f"{base}_{count}"
            self._taken.add(legal)
            self._names[name] = legal
            if legal != name:
                client.set_tag(self.run_id, NAMES + legal, name)
        return self._names[name]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, OSError) as error:
            raise OutputError(
                "writing for MLflow",
                where=self.uri,
                received=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                todo="pass a folder that can be written, or the address of a store that answers",
            ) from error


WRITERS.register("mlflow", WriterEntry(MlflowWriter, "mlflow", "mlflow-skinny", keeps_config=True))
