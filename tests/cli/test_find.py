"""`skipgrad find`: the answer is the library's, the command only asks and shows."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from skipgrad.core.graph import SkipGraph

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        y = self.conv2(torch.relu(self.conv1(x)))
        y += x
        return torch.relu_(y)

def make(width=4, blocks=2, chatty=False, needs_values=False):
    if chatty:
        print("hello from the model")
    if needs_values:
        torch.linspace(0, 1, blocks).sum().item()
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), *(Block(width) for _ in range(blocks)))
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(NET))
    return f"{path}:make"


def test_table(cli: Any, net: str) -> None:
    done = cli("find", net, "--input", "1,3,8,8")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"{net}: 2 skip connections: 2 identity adds; longest span 2"
    rows = [line.split() for line in done.out.splitlines() if line.startswith(("1 ", "2 "))]
    assert [row[:6] for row in rows] == [[n, "add", "identity", "short", "2", "2"] for n in ("1", "2")]
    assert rows[0][6] == "1×4×8×8"


def test_json_is_the_graph_and_nothing_else(cli: Any, net: str) -> None:
    done = cli("find", net, "--input", "1,3,8,8", "--json", "--model-arg", "blocks=3", "--model-arg", "chatty=True")
    assert done.status == 0
    graph = SkipGraph.from_json(done.out)
    assert done.out == graph.to_json() + "\n"
    assert [s.name for s in graph.skips] == ["1", "2", "3"]
    assert "hello from the model" in done.err


def test_json_equals_the_library(cli: Any) -> None:
    import torch

    import skipgrad
    from skipgrad.models import resolve_model

    ref = "skipgrad:resnet20"
    with torch.device("meta"):
        source = resolve_model(ref, {})
        args, kwargs = source.example()
        graph = skipgrad.find(source.build(), *args, **kwargs)
    told = json.loads(cli("find", ref, "--json").out)
    assert told["skips"] == json.loads(graph.to_json())["skips"]


def test_a_model_that_needs_values_is_built_for_real_and_says_so(cli: Any, net: str) -> None:
    done = cli("find", net, "--input", "1,3,8,8", "--model-arg", "needs_values=True")
    assert (done.status, done.err) == (0, "")
    assert "2 identity adds" in done.out
    assert "could not be built on meta" in done.out


def test_plain_net_has_none(cli: Any) -> None:
    done = cli("find", "skipgrad:plain20")
    assert done.status == 0
    assert "no skip connections among" in done.out
    assert "where a skip could be added" in done.out


def test_as_a_stranger_would(shell: Any, net: str) -> None:
    done = shell("find", net, "--input", "1,3,8,8", "--json")
    assert (done.status, done.err) == (0, "")
    assert len(json.loads(done.out)["skips"]) == 2
