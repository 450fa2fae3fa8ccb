"""The sweep over other people's nets: each gets the class it deserves, and nothing is lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, kind="fine"):
        super().__init__()
        self.kind, self.a, self.b = kind, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        if self.kind == "breaks":
            raise ValueError("on purpose")
        if self.kind == "whole":
            return (self.a(x) > 0).long()
        y = self.a(x)
        y = y + torch.relu(self.b(y))
        if self.kind == "random":
            y = y * id(object()) / 1e15 * __import__("time").perf_counter_ns()
        return {"out": y, "more": [y.sum()]}


def one(): return Net()
def breaks(): return Net("breaks")
def whole(): return Net("whole")
def drawn(): return Net("random")
def none(): return 3
def missing(): import no_such_library
def inputs(): return torch.randn(3, 4)
def named(): return {"x": torch.randn(3, 4)}

MENAGERIE_ENTRIES = [
    ("Fine", "one", "inputs", "2026", "A"), ("Named", one, named, 2026, "A"), ("Breaks", "breaks", "inputs", "", ""),
    ("Whole", "whole", "inputs", "", ""), ("Random", "drawn", "inputs", "", ""), ("None", "none", "inputs", "", ""),
    ("Library", "missing", "inputs", "", ""),
]
"""
WANTED = {
    "Fine": "equal",
    "Named": "equal",
    "Breaks": "model",
    "Whole": "found",
    "Random": "random",
    "None": "model",
    "Library": "library",
}
# A test as the peer writes them, and the two files of its that are read.
TESTS = """
import pytest
from torchlens import trace
from torchlens.validation import validate_forward_pass
from torchlens.visualization import show_model_graph
import torch, outside_nets

@pytest.fixture
def x():
    return torch.randn(3, 4)

def test_fine(x):
    assert validate_forward_pass(outside_nets.one(), x)
    show_model_graph(outside_nets.one(), x)

def test_list(x):
    assert validate_forward_pass(outside_nets.one(), [x])

def test_peer(x):
    trace(outside_nets.one(), x)
"""


def run(*words: object) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    line = [sys.executable, str(BENCHMARKS / "outside.py"), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    out = Path(str(words[words.index("--out") + 1]))
    records = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return {name: m for r in records for name, m in r["models"].items()}, done


@pytest.mark.slow
def test_each_model_of_a_folder_gets_its_class(tmp_path: Path) -> None:
    folder = tmp_path / "zoo" / "nets"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('is not to be run')")
    (folder / "some.py").write_text(NETS)
    (folder / "dies.py").write_text("import os\nos._exit(9)")
    (folder / "broken.py").write_text("import no_such_library")
    out = tmp_path / "out.jsonl"
    models, done = run("classics", folder, "--out", out)
    assert {name: models[name]["class"] for name in WANTED} == WANTED, models
    assert models["dies"]["class"] == "undecided"
    assert models["broken"]["class"] == "library"
    assert models["Fine"]["skips"] == 1
    assert models["Fine"]["measured"] == 3
    assert models["Fine"]["adds_up"]
    assert "equal 2" in done.stdout
    assert done.returncode == 0, done.stderr
    size = out.stat().st_size
    _, done = run("classics", folder, "--out", out)
    assert out.stat().st_size == size, "what is done is not run again"
    _, done = run("classics", folder, "--out", out, "--retry", "undecided")
    assert len(out.read_text().splitlines()) == 4


@pytest.mark.slow
def test_the_tests_of_a_peer_hand_over_their_models(tmp_path: Path) -> None:
    (tmp_path / "outside_nets.py").write_text(NETS)
    (tmp_path / "conftest.py").write_text("import sys, os\nsys.path.insert(0, os.path.dirname(__file__))\n")
    (tmp_path / "test_toy_models.py").write_text(TESTS)
    (tmp_path / "test_real_world_models.py").write_text("")
    models, done = run("tests", tmp_path, "--out", tmp_path / "out.jsonl")
    assert {name: m["class"] for name, m in models.items()} == {
        "test_fine": "equal",
        "test_list": "equal",
        "test_peer": "model",
    }, models
    assert done.returncode == 0


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    _, done = run("classics", tmp_path / "nowhere", "--out", tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert "is no folder" in done.stderr
