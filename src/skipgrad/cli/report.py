"""``skipgrad report``: HTML and terminal from a run file; no torch."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from skipgrad.cli._options import Json
from skipgrad.cli._terminal import SCHEMA, answer_console, print_json

RUN_FILE, PAGE = "run.sqlite", "report.html"

RunPath = Annotated[Path, Parameter(help=f"a run file, or the folder that holds {RUN_FILE}")]
Out = Annotated[Path | None, Parameter(help=f"where the page goes; {PAGE} beside the run file when not given")]


def run_file(run: Path) -> Path:
    """The run file that is meant: the path itself, or the one in that folder."""
    return run / RUN_FILE if run.is_dir() else run


def report(run: RunPath, /, *, out: Out = None, json: Json = False) -> int:
    """Show a finished (or interrupted) RUN: a page and a summary. Needs no torch."""
    # Deferred: altair and jinja2 are not to be paid by `skipgrad --help`. See README.md here.
    from skipgrad.report import terminal, write_html
    from skipgrad.store import read_run

    path = run_file(run)
    record = read_run(path)
    page = write_html(record, out or path.with_name(PAGE))
    if json:
        told = {"findings": [asdict(f) for f in record.findings], "cures": [asdict(c) for c in record.cures]}
        state = record.meta.get("state")
        told["paths"] = record.path_records()
        print_json({"schema": SCHEMA, "run": str(path), "report": str(page), "state": state, **told})
    else:
        terminal(replace(record, meta={**record.meta, "report": str(page)}), answer_console())
    return 0
