"""Weights & Biases offline, read back from the run's transaction log by wandb's own records."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skipgrad.core import OutputError
from skipgrad.writers.scalars import scalars

# Deprecations of what wandb stands on (pydantic, protobuf), none of it about skipgrad.
pytestmark = pytest.mark.filterwarnings("ignore:.*:Warning")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what wandb warns about on import is its own affair
    import wandb
    from wandb.proto import wandb_internal_pb2

    from skipgrad.writers.wandb import STEP, WandbWriter

BLOCK, HEAD = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The records of a transaction log. wandb reads it in its Go core only; the frame is that of a LevelDB log."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:  # too little for a head: padding
            at += BLOCK - at % BLOCK
            continue
        crc, size, sort = struct.unpack("<IHB", data[at : at + HEAD])
        body = data[at + HEAD : at + HEAD + size]
        assert crc == zlib.crc32(bytes([sort]) + body), f"a damaged record at byte {at}"
        whole += body
        at += HEAD + size
        if sort in (1, 4):  # whole, or the last of several parts
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def log(folder: Path, most: float = 20.0) -> list[Any]:
    """All records of the one run in a folder; wandb's other process writes the last of them after `finish` returned."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    until = time.monotonic() + most
    while time.monotonic() < until:
        found = list(records(path))
        if found and found[-1].WhichOneof("record_type") in ("exit", "footer"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"the run has no end after {most} s: {path.stat().st_size} bytes")


def history(folder: Path) -> list[dict[str, Any]]:
    kept = [r.history for r in log(folder) if r.WhichOneof("record_type") == "history"]
    return [{i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in h.item} for h in kept]


def test_every_figure_reads_back(rows: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with WandbWriter(out, project="mine", name="first", config={"model": "net"}) as writer:
        writer(rows.skips, rows.layers, rows.losses[:1])
        writer([], [], rows.losses[1:])
    found = history(out)
    expected = []
    for step, losses in ((0, rows.losses[:1]), (1, ())):
        of = [[r for r in kind if r.step == step] for kind in (rows.skips, rows.layers)]
        expected.append({STEP: step, **scalars(*of, losses)})
    expected.append({STEP: 1, **scalars((), (), rows.losses[1:])})
    assert len(found) == 3
    for line, wanted in zip(found, expected, strict=True):
        ours = {k: v for k, v in line.items() if not k.startswith("_")}
        assert {k: repr(float(v)) for k, v in ours.items()} == {k: repr(float(v)) for k, v in wanted.items()}
    run = next(r.run for r in log(out) if r.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name) == ("mine", "first")
    assert {c.key: json.loads(c.value_json) for c in run.config.update}["model"] == "net"
    metrics = [r.metric for r in log(out) if r.WhichOneof("record_type") == "metric"]
    assert {(m.name or m.glob_name): m.step_metric for m in metrics}["skip.*"] == STEP


def test_nothing_is_made_before_the_first_row(tmp_path: Path) -> None:
    with WandbWriter(tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()


def test_a_run_of_yours_stays_open(rows: Any, tmp_path: Path) -> None:
    mine = wandb.init(mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True, console="off"))
    with WandbWriter(mine) as writer:
        writer([r for r in rows.skips if r.step == 1], [], [])
    mine.log({"mine": 1.0})
    mine.finish()
    found = history(tmp_path)
    assert found[0]["skip.skip_norm/layer1.0"] == 1.1
    assert found[1]["mine"] == 1.0


def test_a_folder_that_cannot_be_written(rows: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can be written"):
        WandbWriter(tmp_path / "file" / "out")(rows.skips, [], [])


def test_a_missing_library_says_which_extra_to_install() -> None:
    code = """
import sys
sys.modules["wandb"] = None
try:
    import skipgrad.writers.wandb
except Exception as error:
    print(type(error).__name__, "skipgrad[wandb]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtra", "True"]
