"""``skipgrad export``: a run in another tool's format."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from skipgrad.cli._options import Json
from skipgrad.cli._terminal import SCHEMA, print_json, stdout_is_ours
from skipgrad.cli.report import RunPath, run_file
from skipgrad.writers import WRITERS

To = Annotated[str, Parameter(help=f"{', '.join(WRITERS.refs)}; nothing is sent anywhere")]
Out = Annotated[Path, Parameter(help="the folder to write to")]
TrialId = Annotated[
    int | None, Parameter(validator=Number(gte=0), help="which trial; the patient's measured one when not given")
]

# Nothing is sent anywhere by a command that turns one local file into another.
_QUIET = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def export(run: RunPath, /, *, to: To, out: Out, trial: TrialId = None, json: Json = False) -> int:
    """Write a RUN as tables, or for another tool."""
    # Deferred: the other tools' libraries are imported only when they are asked for. See README.md here.
    from skipgrad.store import read_run
    from skipgrad.writers.export import export as write

    os.environ.update(_QUIET)
    path = run_file(run)
    record = read_run(path, all_kept=True)
    with stdout_is_ours():
        done = write(record, to, out, trial)
    if json:
        print_json({"schema": SCHEMA, "run": str(path), "to": to, "out": str(out), **asdict(done)})
    else:
        print(
            f"{out}: trial {done.trial} as {to}, {done.skips:,} skip rows, {done.layers:,} layer rows, "
            f"{done.losses:,} losses"
        )
    return 0
