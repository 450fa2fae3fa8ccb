"""Issue 3, "Shown by" 3: bad input ends with a message that names what came and what to do; never with a traceback."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

CODE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)
    def forward(self, x):
        raise ValueError("seven is not a colour")

def raises():
    return Raises()

def net(classes=3):
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, classes))

def conv():
    return nn.Conv2d(3, 4, 3)

def no_model():
    return 7

def bad_constructor():
    raise RuntimeError("no such colour")

def data():
    x = torch.randn(96, 8)
    return TensorDataset(x, torch.arange(96) % 3)

def seven_classes():
    x = torch.randn(96, 8)
    return TensorDataset(x, torch.arange(96) % 7)

def wrong_shape():
    return TensorDataset(torch.randn(96, 5), torch.arange(96) % 3)

def with_nan():
    x = torch.randn(96, 8)
    x[5, 2] = float("nan")
    return TensorDataset(x, torch.arange(96) % 3)

def no_data():
    return 7
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(CODE))
    return path


def check(case: Any, *named: str) -> None:
    """A refusal that is fit to read."""
    assert case.status == 1, case.err
    assert case.out == ""
    assert "Traceback" not in case.err
    assert "\n  to do:" in case.err, case.err
    assert "\n  received:" in case.err, case.err
    for text in named:
        assert text in case.err, f"{text!r} is not in:\n{case.err}"


FIND = {
    "unknown library": (["find", "torchvison:resnet18"], ["torchvison", "torchvision"]),
    "unknown name": (["find", "torchvision:resnet19"], ["resnet19", "did you mean"]),
    "unknown built-in": (["find", "skipgrad:plane56"], ["plane56", "plain"]),
    "missing module": (["find", "no_such_package_x.y:z"], ["no_such_package_x"]),
    "missing file": (["find", "nowhere.py:z"], ["nowhere.py"]),
    "missing callable": (["find", "{file}:nett"], ["nett", "did you mean net"]),
    "not a reference": (["find", "resnet18"], ["resnet18"]),
    "no module comes back": (["find", "{file}:no_model", "--input", "1,8"], ["int"]),
    "constructor raises": (["find", "{file}:bad_constructor", "--input", "1,8"], ["no such colour"]),
    "unknown constructor argument": (["find", "{file}:net", "--model-arg", "clases=4", "--input", "1,8"], ["clases"]),
    "no shape known": (["find", "{file}:net"], ["--input"]),
    "wrong input shape": (["find", "{file}:conv", "--input", "1,7,8,8"], ["7"]),
    "forward raises": (["find", "{file}:raises", "--input", "1,8"], ["seven is not a colour"]),
}


@pytest.mark.parametrize(("words", "named"), FIND.values(), ids=FIND.keys())
@pytest.mark.parametrize("json", [False, True], ids=["table", "json"])
def test_find(cli: Any, file: Path, words: list[str], named: list[str], json: bool) -> None:
    words = [word.format(file=file) for word in words]
    check(cli(*words, *["--json"] * json), *named)


CHECK = {
    "unknown model": (["torchvision:resnet19", "--data", "digits"], ["resnet19", "did you mean"]),
    "unknown data": (["skipgrad:plain8", "--data", "digit"], ["digit", "digits"]),
    "missing data callable": (["{file}:net", "--data", "{file}:dta"], ["dta", "data"]),
    "data that is none": (["{file}:net", "--data", "{file}:no_data"], ["int"]),
    "wrong shape": (["{file}:net", "--data", "{file}:wrong_shape"], ["5"]),
    "forward raises": (["{file}:raises", "--data", "{file}:data"], ["seven is not a colour"]),
    "labels beyond the head": (["{file}:net", "--data", "{file}:seven_classes"], ["6", "3"]),
    "NaN in the data": (["{file}:net", "--data", "{file}:with_nan"], ["NaN"]),
    "unknown optimizer": (["{file}:net", "--data", "{file}:data", "--optimizer", "adm"], ["adm", "adam"]),
    "unknown precision": (["{file}:net", "--data", "{file}:data", "--precision", "float33"], ["float33", "float32"]),
    "unknown device": (["{file}:net", "--data", "{file}:data", "--device", "gpu7"], ["gpu7", "cpu"]),
    "no threads": (["{file}:net", "--data", "{file}:data", "--threads", "0"], ["'0'", "auto"]),
    "threads in words": (["{file}:net", "--data", "{file}:data", "--threads", "many"], ["'many'", "auto"]),
    "unknown remedy": (["{file}:net", "--data", "{file}:data", "--try", "zeroinit"], ["zeroinit", "zero-init"]),
}


@pytest.mark.parametrize(("words", "named"), CHECK.values(), ids=CHECK.keys())
def test_check(cli: Any, file: Path, tmp_path: Path, words: list[str], named: list[str]) -> None:
    words = [word.format(file=file) for word in words]
    check(cli("check", *words, "--steps", "4", "--out", tmp_path / "out", "--json"), *named)


def test_check_into_a_folder_that_cannot_be_made(cli: Any, file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    out = tmp_path / "taken" / "out"
    check(cli("check", f"{file}:net", "--data", f"{file}:data", "--steps", "4", "--out", out), str(out))


def test_check_does_not_overwrite_a_run(cli: Any, file: Path, tmp_path: Path) -> None:
    """Nothing lost: a second check into the same folder either refuses or keeps the first run."""
    words = ("check", f"{file}:net", "--data", f"{file}:data", "--steps", "4", "--no-try", "--out", tmp_path / "out")
    assert cli(*words).status == 0
    first = (tmp_path / "out" / "run.sqlite").read_bytes()
    again = cli(*words)
    kept = [p.read_bytes() for p in (tmp_path / "out").iterdir()]
    assert first in kept or again.status == 1


@pytest.mark.slow
def test_as_a_stranger_would(shell: Any) -> None:
    check(shell("find", "torchvision:resnet19"), "resnet19", "resnet18")
