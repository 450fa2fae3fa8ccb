"""The table of `skipgrad find`, from graphs made by hand."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from skipgrad.cli._tables import counts, graph_text, remarks, show_graph
from skipgrad.core.draw.words import sentence
from skipgrad.core.graph import Layer, Other, Skip, SkipGraph, Suggestion, Unknown

ADD = Skip(
    "layer1.0",
    "add",
    "identity",
    False,
    span=2,
    fan_in=2,
    branches=(("layer1.0.conv1", "layer1.0.conv2"),),
    fork_shape=(1, 64, 56, 56),
    merge_shape=(1, 64, 56, 56),
)
PROJECTION = replace(ADD, name="layer2.0", shortcut="projection", merge_shape=(1, 128, 28, 28), span=3)
CONCAT = replace(ADD, name="up[bold]1", kind="concat", long=True, fan_in=4, merge_shape=(1, 128, 56, 56), span=11)
LAYERS = tuple(Layer(f"conv{i}", "conv2d", (1, 8), "conv") for i in range(3))


def drawn(graph: SkipGraph, width: int = 100, *, suggest: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    show_graph(graph, console, "file.py:net", suggest=suggest)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (SkipGraph((), layers=LAYERS), "no skip connections among 3 weighted layers"),
        (SkipGraph((), layers=LAYERS[:1]), "no skip connections among 1 weighted layer"),
        (SkipGraph((ADD,)), "1 skip connection: 1 identity add; longest span 2"),
        (SkipGraph((PROJECTION, ADD, ADD)), "3 skip connections: 2 identity adds, 1 projection add; longest span 3"),
        (SkipGraph((CONCAT, CONCAT)), "2 skip connections: 2 identity concats; 2 long; longest span 11"),
        (SkipGraph((replace(ADD, kind="index"),)), "1 skip connection: 1 identity index merge; longest span 2"),
    ],
)
def test_summary(graph: SkipGraph, text: str) -> None:
    assert sentence(graph) == text


def everything() -> SkipGraph:
    injections = tuple(Other(f"block{i}", "injection", "the shortcut is broadcast at the merge") for i in range(5))
    return SkipGraph(
        (ADD, PROJECTION, CONCAT),
        others=(*injections, Other("", "parallel", "branches side by side, no shortcut")),
        unknown=(Unknown("custom::warp", "head", 2), Unknown("fft_rfft", "")),
        layers=LAYERS,
        suggestions=(Suggestion("conv1", "conv2", 2, (1, 8), (1, 8), "identity", "no skip bridges these 2 layers"),),
        inputs="(1, 3, 224, 224) float32",
        notes=("aux did not run in this trace",),
    )


def test_everything_there_is_to_say(snapshot: SnapshotAssertion) -> None:
    assert drawn(everything()) == snapshot


def test_suggestions_and_unclean_shortcuts_with_their_reasons(snapshot: SnapshotAssertion) -> None:
    after = replace(ADD, name="layer1.1", previous="layer1.0", trunk=("relu",))
    graph = replace(everything(), skips=(ADD, after, replace(CONCAT, shortcut="slice", shortcut_ops=("getitem",))))
    text = drawn(graph, suggest=True)
    assert text == snapshot
    assert "--suggest" not in text
    assert counts(graph) == (
        "places where a skip could be added (remedy add-skips): 1; skips with a shortcut that is not clean: 2"
    )


def test_nothing_to_suggest_is_said() -> None:
    text = drawn(SkipGraph((ADD,)), suggest=True)
    assert "no place where a skip could be added" in text
    assert "all shortcuts are clean" in text
    assert "--suggest" not in drawn(SkipGraph((ADD,)))


def test_a_file_gets_what_a_pipe_gets() -> None:
    graph = everything()
    assert graph_text(graph, "file.py:net") == drawn(graph, width=1000)
    assert "\x1b" not in graph_text(graph, "file.py:net")


def test_no_skips(snapshot: SnapshotAssertion) -> None:
    assert drawn(SkipGraph((), layers=LAYERS)) == snapshot


def test_narrow_terminals_fold_and_lose_nothing() -> None:
    long = replace(ADD, name="encoder.stages.3.blocks.17.attention.residual")
    text = drawn(SkipGraph((long,)), width=60)
    assert max(map(len, text.splitlines())) <= 60
    rows = text[text.index("encoder") :].splitlines()
    assert "".join(line.split("  ")[0].strip() for line in rows) == long.name


def test_names_are_not_markup() -> None:
    assert "up[bold]1" in drawn(SkipGraph((CONCAT,)))


def test_every_row_is_kept() -> None:
    graph = SkipGraph(tuple(replace(ADD, name=f"block.{i}") for i in range(152)))
    assert sum(line.startswith("block.") for line in drawn(graph).splitlines()) == 152


def test_others_of_one_reason_share_a_line() -> None:
    lines = [line for line in remarks(everything()) if "×" in line]
    assert lines[0].endswith("block0, block1, block2 … (2 more)")
    assert lines[1].endswith("the model itself")
