"""`skipgrad report`: a page and a summary from a run file, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skipgrad.core.graph import Layer, Skip, SkipGraph
from skipgrad.core.run import Cure, Finding, LayerRow, LossPoint, SkipRow, Trial
from skipgrad.core.spectrum import PathRow
from skipgrad.store import RunWriter


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """A small finished run: two skips, two steps, a finding and a cure."""
    names = ("block.0", "block.1")
    skips = tuple(
        Skip(n, "add", "identity", False, 2, 2, ((f"{n}.a", f"{n}.b"),), (4, 8), (4, 8), n, start=2 * i, end=2 * i + 2)
        for i, n in enumerate(names)
    )
    layers = tuple(Layer(f"{n}.{part}", "linear", (4, 8), "block") for n in names for part in "ab")
    path = tmp_path / "out" / "run.sqlite"
    meta = {"model": "file.py:net", "data": "digits", "fit": ["as it is"], "command": "skipgrad check", "seed": 0}
    with RunWriter.create(path, {**meta, "state": "done", "versions": {"torch": "2.15"}}) as writer:
        writer.graph(SkipGraph(skips, layers=layers))
        for trial in (
            Trial(0, None, 0.1, 0, 2, measured=True, state="done"),
            Trial(1, "zero-init", 0.1, 0, 2, state="done"),
        ):
            writer.trial(trial)
            writer.losses([LossPoint(trial.id, step, 2.0 - step, 0.1 * step) for step in range(2)])
        writer.skip_rows(
            0, [SkipRow(s, 0, n, 3.0, 4.0, 5.0, 2.5, 0.0, 2.0, 1.0, 0.5, 0.0) for s in range(2) for n in names]
        )
        writer.layer_rows(
            0, [LayerRow(s, la.name, i, 1.0, 2.0, 0.1, 0.01, 0.0) for s in range(2) for i, la in enumerate(layers)]
        )
        writer.paths(0, [PathRow(0, None, "odd")])
        writer.findings(
            [
                Finding(
                    "SG005", "branch that does nothing", "warning", "found", ("block.1",), {"share": 0.01}, "Mend it."
                ),
                Finding("SG001", "vanishing", "error", "passed"),
            ]
        )
        writer.cures([Cure("zero-init", "helped", "0.5× the steps", 0.5, 1.0, 0.5, 0.6, seeds=1)])
    return path


def test_page_beside_the_run_file(cli: Any, run_file: Path) -> None:
    done = cli("report", run_file)
    page = run_file.with_name("report.html")
    assert (done.status, done.err) == (0, "")
    assert page.read_text().lstrip().lower().startswith("<!doctype html")
    assert "SG005" in done.out
    assert "zero-init" in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_the_folder_will_do(cli: Any, run_file: Path) -> None:
    assert cli("report", run_file.parent).status == 0
    assert run_file.with_name("report.html").exists()


def test_out(cli: Any, run_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "elsewhere.html"
    assert cli("report", run_file, "--out", page).status == 0
    assert page.exists()
    assert not run_file.with_name("report.html").exists()


def test_json_is_one_object(cli: Any, run_file: Path) -> None:
    done = cli("report", run_file, "--json")
    told = json.loads(done.out)
    assert done.status == 0
    assert Path(told["run"]) == run_file
    assert Path(told["report"]) == run_file.with_name("report.html")
    assert [(f["code"], f["state"]) for f in told["findings"]] == [("SG001", "passed"), ("SG005", "found")]
    assert [(c["remedy"], c["state"]) for c in told["cures"]] == [("zero-init", "helped")]
    assert told["paths"] == [{"trial": 0, "step": 0, "spectrum": None, "reason": "odd"}]


def test_no_torch(run_file: Path) -> None:
    code = (
        "import sys; from skipgrad.cli import main; status = main(sys.argv[1:])\n"
        "sys.exit(status or 9 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, "report", str(run_file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_without_a_run(cli: Any, tmp_path: Path) -> None:
    done = cli("report", tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "run.sqlite" in done.err
    assert "to do:" in done.err


def test_a_missing_file(cli: Any, tmp_path: Path) -> None:
    done = cli("report", tmp_path / "none.sqlite")
    assert (done.status, done.out) == (1, "")
    assert "none.sqlite" in done.err


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"SQLite format 3\0" + b"\1" * 200], ids=["empty", "text", "damaged"]
)
def test_a_file_that_is_no_run(cli: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(content)
    done = cli("report", path, "--json")
    assert (done.status, done.out) == (1, "")
    assert str(path) in done.err
    assert "to do:" in done.err
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written(cli: Any, run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("report", run_file, "--out", tmp_path / "file" / "page.html")
    assert (done.status, done.out) == (1, "")
    assert str(tmp_path / "file" / "page.html") in done.err
    assert "to do:" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(cli: Any, run_file: Path) -> None:
    run_file.parent.chmod(0o500)
    try:
        done = cli("report", run_file)
    finally:
        run_file.parent.chmod(0o700)
    assert done.status == 1
    assert "report.html" in done.err
