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
    assert "tried first: on meta" in done.out


def test_plain_net_has_none(cli: Any) -> None:
    done = cli("find", "skipgrad:plain20")
    assert done.status == 0
    assert "no skip connections among" in done.out
    assert "where a skip could be added" in done.out


@pytest.mark.parametrize(
    ("name", "begins"), [("mermaid", "flowchart TD"), ("dot", "digraph network {"), ("svg", "<svg "), ("json", "{")]
)
def test_formats_are_the_librarys(cli: Any, net: str, tmp_path: Path, name: str, begins: str) -> None:
    from skipgrad.core.draw import dot, mermaid, svg

    words = ("find", net, "--input", "1,3,8,8")
    told = cli(*words, "--format", name)
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith(begins)
    graph = SkipGraph.from_json(cli(*words, "--json").out)
    draw = {"mermaid": mermaid, "dot": dot, "svg": svg, "json": SkipGraph.to_json}[name]
    assert told.out == draw(graph).rstrip("\n") + "\n"
    path = tmp_path / "new folder" / f"net.{name}"
    done = cli(*words, "--format", name, "--out", path)
    assert (done.status, done.out, done.err) == (0, "", f"skipgrad: wrote {path}\n")
    assert path.read_text("utf-8") == told.out
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no half-written file beside it


def test_out_takes_the_table_too_and_replaces_what_was_there(cli: Any, net: str, tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("old " * 10_000)
    assert cli("find", net, "--input", "1,3,8,8", "--out", path).status == 0
    told = cli("find", net, "--input", "1,3,8,8", "--format", "table").out
    # Trailing blanks fill the columns of a table.
    assert path.read_text("utf-8").rstrip() == told.rstrip()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--json", "--format", "dot"), "--json and --format dot, which differ"),
        (("--suggest", "--format", "svg"), "which has no place for suggestions"),
    ],
)
def test_contradictions_are_refused_before_anything_runs(cli: Any, words: tuple[str, ...], says: str) -> None:
    done = cli("find", "no.such.module:net", *words)
    assert (done.status, done.out) == (1, "")
    assert says in done.err


def test_json_twice_is_no_contradiction_and_a_wrong_format_is_named(cli: Any, net: str) -> None:
    assert cli("find", net, "--input", "1,3,8,8", "--json", "--format", "json", "--suggest").status == 0
    done = cli("find", net, "--format", "png")
    assert (done.status, done.out) == (2, "")
    assert "svg" in done.err


def test_a_path_that_cannot_be_written_is_an_error(cli: Any, net: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path, tmp_path / "file" / "below.svg"):
        done = cli("find", net, "--input", "1,3,8,8", "--format", "svg", "--out", path)
        assert (done.status, done.out) == (1, "")
        assert str(path) in done.err
    assert (tmp_path / "file").read_text() == "kept"


TRANSFORMER = """
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        return self.o(nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))

class Gated(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(width, 99), nn.Linear(width, 99), nn.Linear(99, width)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))

def make():
    wide, narrow = nn.Linear(32, 64), nn.Linear(64, 32)
    return nn.Sequential(nn.Linear(8, 32), Attention(32), wide, nn.GELU(), narrow, Gated(32), nn.Linear(32, 4))

def convs(dims=1):
    conv = getattr(nn, f"Conv{dims}d")
    layers = [conv(8, 8, 3, padding=1), nn.ReLU(), conv(8, 8, 3, padding=1), nn.ReLU()]
    layers += [conv(8, 32, 1), nn.ReLU(), conv(32, 32, 3, padding=1), nn.ReLU(), conv(32, 8, 1), nn.ReLU()]
    return nn.Sequential(*layers, conv(8, 16, 3, padding=1, stride=2), nn.ReLU(), conv(16, 16, 3, padding=1), nn.ReLU())

def shared():
    net = Attention(32)
    net.forward = lambda x: net.o(net.q(x)) + net.o(net.k(x))
    return nn.Sequential(nn.Linear(8, 32), net)
"""


def suggestions(cli: Any, tmp_path: Path, name: str, shape: str, *words: str) -> list[tuple[Any, ...]]:
    """What `find` suggests for a net of `TRANSFORMER`."""
    path = tmp_path / "nets.py"
    path.write_text(TRANSFORMER)
    told = cli("find", f"{path}:{name}", "--input", shape, "--json", *words)
    assert told.status == 0, told.err
    found = json.loads(told.out)["suggestions"]
    assert all("no skip bridges these" in s["reason"] for s in found)
    return [(s["first"], s["last"], s["span"], s["shortcut"]) for s in found]


def test_suggestions_in_a_transformer_bridge_attention_and_feed_forward_parts(cli: Any, tmp_path: Path) -> None:
    assert suggestions(cli, tmp_path, "make", "2,5,8") == [
        ("1.q", "1.o", 4, "identity"),
        ("2", "4", 2, "identity"),
        ("5.gate", "5.down", 3, "identity"),
    ]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_suggestions_take_a_longer_run_where_an_identity_then_fits(cli: Any, tmp_path: Path, dims: int) -> None:
    shape = ",".join(("1", "8", *["8"] * dims))
    assert suggestions(cli, tmp_path, "convs", shape, "--model-arg", f"dims={dims}") == [
        ("0", "2", 2, "identity"),
        ("4", "8", 3, "identity"),
        ("10", "12", 2, "projection"),
    ]


def test_no_suggestion_around_a_layer_that_is_called_twice(cli: Any, tmp_path: Path) -> None:
    assert suggestions(cli, tmp_path, "shared", "2,5,8") == []


def test_suggest_lists_both_with_reasons(cli: Any, net: str) -> None:
    done = cli("find", net, "--input", "1,3,8,8", "--suggest")
    assert (done.status, done.err) == (0, "")
    assert "relu follows the merge of 1 (post-activation)" in done.out
    assert "no place where a skip could be added" in done.out
    assert (
        "skips with a shortcut that is not clean: 1; --suggest lists them" in cli("find", net, "--input", "1,3,8,8").out
    )


@pytest.mark.slow
def test_as_a_stranger_would(shell: Any, net: str) -> None:
    done = shell("find", net, "--input", "1,3,8,8", "--json")
    assert (done.status, done.err) == (0, "")
    assert len(json.loads(done.out)["skips"]) == 2


def test_rules_of_ones_own(cli: Any, net: str) -> None:
    own = Path(net.rpartition(":")[0])
    own.write_text(
        own.read_text() + "\nimport skipgrad\n"
        "\ndef rules():\n    return skipgrad.Rules(keep=lambda skip: skip.name == '1')\n"
        "\ndef none():\n    return 3\n"
    )
    done = cli("find", net, "--input", "1,3,8,8", "--rules", f"{own}:rules")
    assert (done.status, done.err) == (0, "")
    assert "1 skip connection: 1 identity add" in done.out
    assert "left out by the rule keep=" in done.out
    for name, words in (("none", "it returned int"), ("nothing", "no 'nothing' in it")):
        done = cli("find", net, "--rules", f"{own}:{name}")
        assert done.status == 1
        assert words in done.err
        assert "Traceback" not in done.err
