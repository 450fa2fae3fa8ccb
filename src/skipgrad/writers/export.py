"""A finished run, given to a writer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import nearest
from skipgrad.core.run import Measurements, Run
from skipgrad.writers.base import RowWriter
from skipgrad.writers.registry import WRITERS


@dataclass(frozen=True)
class Exported:
    """What was written: how many rows of each kind, of which trial."""

    trial: int
    skips: int
    layers: int
    losses: int


def export(run: Run, to: str, out: str | Path, trial: int | None = None) -> Exported:
    """Writes what one trial of a run measured to another tool's format.

    Args:
        run: the run.
        to: a kind of `WRITERS`.
        out: the folder to write to.
        trial: the trial's id; the patient's measured one when None.

    Raises:
        BadInput: no such kind, no such trial, or a trial that measured nothing.
        MissingExtra: the library it needs is not installed.
        OutputError: the folder holds such an export already, or cannot be written.
    """
    if to not in WRITERS:
        todo = "; ".join((nearest(to, WRITERS), *WRITERS.notes))
        raise BadInput("exporting a run", where="--to", received=repr(to), todo=todo)
    known = tuple(t.id for t in run.trials)
    if trial is None:
        trial = run.patient_id()
    elif trial not in known:
        which = ", ".join(f"{t.id} ({t.remedy or 'patient'}, seed {t.seed})" for t in run.trials[:12])
        raise BadInput("exporting a run", where=run.path, received=f"trial {trial}", todo=f"pass one of {which or '–'}")
    rows = run.measurements(trial)
    if not (rows.skips or rows.layers or rows.losses):
        raise BadInput(
            "exporting a run",
            where=run.path,
            received=f"a run without a row of trial {trial}",
            todo="export a run that measured something, or pass another --trial",
        )
    with _writer(to, out, run, trial) as writer:
        writer(rows.skips, rows.layers, rows.losses)
    return _counted(trial, rows)


def _counted(trial: int, rows: Measurements) -> Exported:
    return Exported(trial, len(rows.skips), len(rows.layers), len(rows.losses))


def _writer(to: str, out: str | Path, run: Run, trial: int) -> RowWriter:
    entry = WRITERS.get(to)
    if not entry.keeps_config:
        return entry.make(out)
    record = next((t for t in run.trials if t.id == trial), None)
    config = {k: v for k, v in run.meta.items() if k != "report"}
    if record is not None:
        config |= {"trial": trial, "remedy": record.remedy, "rate": record.rate, "seed": record.seed}
    return entry.make(out, name=f"{run.meta.get('model', 'model')} trial {trial}", config=config)
