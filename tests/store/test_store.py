"""The run file: what goes in comes out, for every record, also after a kill and while it is written."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipgrad.core import (
    Cure,
    Finding,
    Layer,
    LayerRow,
    LossPoint,
    OutputError,
    PathRow,
    PathSpectrum,
    RunFileError,
    Skip,
    SkipGraph,
    SkipRow,
    Trial,
)
from skipgrad.store import RunWriter, read_run

GRAPH = SkipGraph(
    skips=(Skip("nan", "add", "identity", False, 2, 2, (("a", "b"),), (2, 8), (2, 8), start=1, end=3),),
    layers=(Layer("nan", "linear", (2, 8), "stem"),),
    model="toy",
)
ROW = SkipRow(0, 0, "nan", 1.0, 2.0, 3.0, 1.5, 1.0, 2.0, 0.5, 0.25, 1e-17)
SPECTRUM = PathSpectrum(
    "nan", (0, 1), (0.8, 0.6), (0.64, 0.36), 0.0, 0.0, 1.5, 0.36, 1e-7, 1, ("nan",), ("cat",), ("odd",), "float32"
)
LAYER = LayerRow(0, "nan", 0, 1.0, 2.0, None, None, None, None, 64, "float32")


def test_every_record_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.db"
    finding = Finding("SG001", "Fades", "error", "found", ("nan",), {"ratio": 1e-9, "floor": "1e-6"}, "Do", ("x",))
    cure = Cure("x", "helped", "less", 0.1, 2.3, 0.5, None, (0.4, 0.6), None, 0.1, 2.2, 0.1, 0.01, 3, "x(model)\n")
    with RunWriter.create(path, {"model": "toy", "fit": ["one", "two"], "seed": 3}) as writer:
        writer.graph(GRAPH).graph(replace(GRAPH, model="cured"), trial=1)
        writer.trial(Trial(0, None, 0.1, 3, 10, measured=True)).trial(Trial(1, "x", 0.1, 3, 10))
        writer.losses([LossPoint(0, 0, 2.5, 0.1), LossPoint(1, 0, 2.25, 0.2)])
        writer.skip_rows(0, [ROW]).layer_rows(0, [LAYER])
        writer.paths(0, [PathRow(10, None, "first try"), PathRow(10, SPECTRUM), PathRow(0, None, "odd")])
        writer.findings([replace(finding, code="SG002"), finding]).cures([cure]).note("odd").note("odd")
        writer.meta(state="done")
    run = read_run(path)
    assert run.meta == {"model": "toy", "fit": ["one", "two"], "seed": 3, "state": "done"}
    assert run.graph == GRAPH
    assert run.graphs == {1: replace(GRAPH, model="cured")}
    assert run.trials == (Trial(0, None, 0.1, 3, 10, measured=True), Trial(1, "x", 0.1, 3, 10))
    assert run.losses == (LossPoint(0, 0, 2.5, 0.1), LossPoint(1, 0, 2.25, 0.2))
    assert run.skip_rows == {0: (ROW,)}
    assert run.layer_rows == {0: (LAYER,)}
    assert run.paths == {0: (PathRow(0, None, "odd"), PathRow(10, SPECTRUM))}
    assert run.measurements().paths == run.paths[0]
    assert run.findings == (finding, replace(finding, code="SG002"))  # in order of code
    assert run.cures == (cure,)
    assert run.notes == ("odd",)
    assert run.path == str(path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["run.db"]  # a single file once closed


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=11, max_size=11), st.text())
def test_any_float_and_any_name_survive(tmp_path_factory: pytest.TempPathFactory, v: list[float], name: str) -> None:
    path = tmp_path_factory.mktemp("run") / "run.db"
    v = [x + 0.0 for x in v]  # SQLite keeps no sign of a zero
    row = SkipRow(1, 2, name, *v[:9], finite=False)
    layer = LayerRow(1, name, 4, v[9], v[10], None, v[0], v[1], v[2], finite=False)
    finding = Finding("SG001", name, "info", "found", (name,), {"value": v[0], name: name})
    loss = LossPoint(0, 1, v[0], v[1])
    with RunWriter.create(path) as writer:
        writer.skip_rows(0, [row]).layer_rows(0, [layer]).findings([finding]).losses([loss])
    run = read_run(path)
    # repr tells NaN equal to NaN
    assert repr(run.skip_rows[0]) == repr((row,))
    assert repr(run.layer_rows[0]) == repr((layer,))
    assert repr(run.findings) == repr((finding,))
    assert repr(run.losses) == repr((loss,))


def test_bytes_that_are_no_text_do_not_stop_a_run(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run.db", {"command": "check \udcff"}) as writer:
        writer.note("file \udcff").skip_rows(0, [replace(ROW, skip="\udcff")])
    run = read_run(tmp_path / "run.db")
    assert run.notes == ("file \\udcff",)
    assert run.skip_rows[0][0].skip == "\\udcff"


def test_a_missing_figure_is_not_a_nan(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run.db") as writer:
        writer.layer_rows(0, [replace(LAYER, update_norm=math.nan)])
    row = read_run(tmp_path / "run.db").layer_rows[0][0]
    assert row.weight_grad_norm is None
    assert row.update_norm is not None
    assert math.isnan(row.update_norm)


def test_a_later_record_supersedes_and_nothing_is_updated_in_place(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with RunWriter.create(path, {"state": "running"}) as writer:
        writer.trial(Trial(0, None, 0.1, 0, 9)).trial(Trial(1, "x", 0.1, 0, 9)).skip_rows(
            0, [ROW, replace(ROW, step=1)]
        )
        writer.losses([LossPoint(0, 0, 2.0, 0.1)])
    with RunWriter.append(path) as writer:
        writer.trial(Trial(0, None, 0.1, 0, 9, state="done")).meta(state="done")
        writer.skip_rows(0, [replace(ROW, gain=7.0), replace(ROW, micro=1)]).losses([LossPoint(0, 0, 1.0, 0.2)])
    run = read_run(path)
    assert [(t.id, t.state) for t in run.trials] == [(0, "done"), (1, "running")]
    assert [(r.step, r.micro, r.gain) for r in run.skip_rows[0]] == [(0, 0, 7.0), (1, 0, 2.0), (0, 1, 2.0)]
    assert run.losses == (LossPoint(0, 0, 1.0, 0.2),)
    assert run.meta["state"] == "done"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (3,)
    connection.close()


def test_an_exception_commits_what_there_is(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RunWriter.create(tmp_path / "run.db", {"state": "running"}) as writer:
            writer.note("before")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    run = read_run(tmp_path / "run.db")
    assert run.notes == ("before",)
    assert run.meta["state"] == "running"


_VICTIM = """
import sys, time
from skipgrad.core import LossPoint
from skipgrad.store import RunWriter
writer = RunWriter.create(sys.argv[1], {"state": "running"})
for step in range(1000):
    writer.losses([LossPoint(0, step, 1.0, 0.1)])
    if step == 499:
        writer.commit()
        print("committed", flush=True)
    if step == 899:
        print("pending", flush=True)
        time.sleep(60)
"""


def test_what_was_committed_survives_a_kill_and_can_be_read_before_it(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with subprocess.Popen([sys.executable, "-c", _VICTIM, str(path)], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "committed\n"
        assert victim.stdout.readline() == "pending\n"
        assert len(read_run(path).losses) == 500  # by another process, while it is written
        os.kill(victim.pid, signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    run = read_run(path)
    assert [p.step for p in run.losses] == list(range(500))
    assert run.meta == {"state": "running"}
    with RunWriter.append(path) as writer:
        writer.losses([LossPoint(0, 500, 0.5, 0.2)]).meta(state="done")
    assert len(read_run(path).losses) == 501
    assert [p.name for p in tmp_path.iterdir()] == ["run.db"]


def test_a_reader_does_not_hold_up_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    writer = RunWriter.create(path)
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM losses").fetchall()
    writer.losses([LossPoint(0, 0, 1.0, 0.1)]).commit()
    assert len(read_run(path).losses) == 1
    writer.close()  # the log stays, because the reader needs it
    assert len(read_run(path).losses) == 1
    reader.close()


def test_reading_is_linear(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with RunWriter.create(path) as writer:
        writer.skip_rows(0, [replace(ROW, step=i // 100, skip=f"layer.{i % 100}") for i in range(100_000)])
    begin = time.process_time()
    assert len(read_run(path).skip_rows[0]) == 100_000
    assert time.process_time() - begin < 10  # 0.7 s of the processor here; a quadratic reader takes minutes


def _bad_file(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "run.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("step,loss\n0,2.3\n" * 20)
    elif kind == "empty":
        path.touch()
    elif kind == "other":
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE t (a)")
        connection.commit()
        connection.close()
    elif kind != "missing":
        with RunWriter.create(path) as writer:
            writer.losses([LossPoint(0, i, 1.0, 0.1) for i in range(5000)])
            if kind == "damaged record":
                writer.trial(Trial(0, None, 0.1, 0, 1))
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:20000])
        elif kind == "damaged pages":
            data = path.read_bytes()
            path.write_bytes(data[:4096] + b"\xaa" * (len(data) - 4096))
        elif kind in ("newer", "damaged record"):
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA user_version = 9" if kind == "newer" else "UPDATE trials SET trial = '{\"id\"'")
            connection.commit()
            connection.close()
    return path


BAD = ("missing", "folder", "text", "empty", "other", "newer", "truncated", "damaged pages", "damaged record")


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_for_what_it_is(tmp_path: Path, kind: str, snapshot: object) -> None:
    path = _bad_file(tmp_path, kind)
    with pytest.raises(RunFileError) as caught:
        read_run(path)
    assert str(caught.value).replace(str(tmp_path), "TMP") == snapshot


@pytest.mark.parametrize("kind", [kind for kind in BAD if not kind.startswith("damaged")])
def test_going_on_with_a_bad_file_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(RunFileError):
        RunWriter.append(_bad_file(tmp_path, kind))


def test_an_existing_file_is_not_overwritten(tmp_path: Path, snapshot: object) -> None:
    path = tmp_path / "run.db"
    path.write_text("precious")
    with pytest.raises(OutputError) as caught:
        RunWriter.create(path)
    assert str(caught.value).replace(str(tmp_path), "TMP") == snapshot
    assert path.read_text() == "precious"


def test_a_path_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="creating a run file"):
        RunWriter.create(tmp_path / "file" / "run.db")


def test_two_writers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunWriter.create(tmp_path / "run.db") as first:
        first.note("open transaction")
        second = RunWriter.append(tmp_path / "run.db")
        second._connection.execute("PRAGMA busy_timeout = 1")  # type: ignore[union-attr]
        with pytest.raises(OutputError, match="another process is writing"):
            second.note("too much")
        second.close()


def test_a_file_from_before_path_spectra_were_kept_is_read_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with RunWriter.create(path) as writer:
        writer.skip_rows(0, [ROW])
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE paths")
    connection.commit()
    connection.close()
    assert read_run(path).paths == {}
    with RunWriter.append(path) as writer:
        writer.paths(0, [PathRow(1, SPECTRUM)])
    assert read_run(path).paths == {0: (PathRow(1, SPECTRUM),)}
    assert read_run(path).skip_rows == {0: (ROW,)}


def test_a_cure_written_before_it_told_whether_the_patient_trains_is_read(tmp_path):
    with RunWriter.create(tmp_path / "run.sqlite", {}) as writer:
        writer.cures([Cure("x", "helped", "less", 0.1, 2.3, 0.5)])
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as db, db:
        db.execute("UPDATE cures SET cure = json_remove(cure, '$.patient_trains', '$.patient_first_loss')")
    [cure] = read_run(tmp_path / "run.sqlite").cures
    assert (cure.patient_trains, cure.patient_first_loss, cure.steps_ratio) == (True, None, 0.5)
