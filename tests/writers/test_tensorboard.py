"""TensorBoard, read back by its own accumulator."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from skipgrad.core import OutputError
from skipgrad.writers.scalars import scalars

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what tensorboard warns about on import is its own affair
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util
    from torch.utils.tensorboard import SummaryWriter

    from skipgrad.writers.tensorboard import TensorBoardWriter


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(e.step, float(tensor_util.make_ndarray(e.tensor_proto).item())) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_every_figure_reads_back_in_double_precision(rows: Any, tmp_path: Path) -> None:
    with TensorBoardWriter(tmp_path / "tb") as writer:
        writer(rows.skips, rows.layers, rows.losses[:1])
        writer([], [], rows.losses[1:])
    found = read(tmp_path / "tb")
    expected: dict[str, list[tuple[int, float]]] = {}
    for step in (0, 1):
        of = [[r for r in kind if r.step == step] for kind in (rows.skips, rows.layers, rows.losses)]
        for name, value in scalars(*of).items():
            expected.setdefault(name, []).append((step, value))
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [s for s, _ in found[name]] == [s for s, _ in points]
        for (_, a), (_, b) in zip(found[name], points, strict=True):
            assert a == b or (math.isnan(a) and math.isnan(b)), name
    assert found["skip.branch_norm/layer1.0"] == [(0, 1e-60), (1, 1e-60)]


def test_a_writer_of_yours_stays_open(rows: Any, tmp_path: Path) -> None:
    mine = SummaryWriter(str(tmp_path / "tb"))
    with TensorBoardWriter(mine) as writer:
        writer(rows.skips, [], [])
    mine.add_scalar("mine", 1.0, 7, new_style=True)
    mine.close()
    found = read(tmp_path / "tb")
    assert found["mine"] == [(7, 1.0)]
    assert "skip.skip_norm/layer1.0" in found


def test_two_runs_are_not_mixed(rows: Any, tmp_path: Path) -> None:
    with TensorBoardWriter(tmp_path / "tb") as writer:
        writer(rows.skips, [], [])
    with pytest.raises(OutputError, match="folder of its own"):
        TensorBoardWriter(tmp_path / "tb")


def test_a_folder_that_cannot_be_written(rows: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can be written"):
        TensorBoardWriter(tmp_path / "file" / "tb")(rows.skips, [], [])


def test_a_missing_library_says_which_extra_to_install() -> None:
    code = """
import sys
sys.modules["tensorboard"] = None
try:
    import skipgrad.writers.tensorboard
except Exception as error:
    print(type(error).__name__, "skipgrad[tensorboard]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtra", "True"]
