"""Boxes and arrows: every fork and merge where the records say, in Mermaid and in DOT."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from syrupy.assertion import SnapshotAssertion

from core.draw import graphs
from skipgrad.core import SkipGraph
from skipgrad.core.draw import dot, mermaid
from skipgrad.core.draw.flow import Flow, folded, whole
from skipgrad.core.draw.mermaid import MAX_EDGES, MAX_TEXT, MOST_GROUPS


def links(flow: Flow) -> set[tuple[str, str]]:
    return {(a.start, a.end) for a in flow.arrows if a.skip}


def test_a_residual_block_ends_where_the_next_begins() -> None:
    graph = graphs.residual((2,))
    flow = whole(graph)
    assert links(flow) == {("l0", "m0"), ("m0", "m1")}
    trunk = [a.start for a in flow.arrows if not a.skip] + ["output"]
    assert trunk == ["input", "l0", "l1", "l2", "m0", "l3", "l4", "m1", "l5", "output"]


def test_a_projection_lies_on_the_arrow_and_not_on_the_trunk() -> None:
    flow = whole(graphs.residual((1, 1)))
    # stem, two convolutions, add; two convolutions and their projection, add
    assert {("m0", "l5"), ("l5", "m1")} <= links(flow)
    assert all("l5" not in (a.start, a.end) for a in flow.arrows if not a.skip)


def test_a_fork_before_a_merge_of_the_same_place_is_the_layers() -> None:
    # The add at position 3 and the layer before it are both "made by then"; the fork says which.
    skips = (graphs.skip("a", 1, 3), graphs.skip("b", 3, 5, "concat", fork="x.2"))
    layers = tuple(graphs.layer(f"x.{i}") for i in range(6))
    graph = SkipGraph(skips, layers=layers)
    assert ("l2", "m1") in links(whole(graph))
    assert ("m0", "m1") in links(whole(replace(graph, skips=(skips[0], replace(skips[1], fork="elsewhere")))))
    assert ("m0", "m1") in links(whole(replace(graph, skips=(skips[0], replace(skips[1], previous="a")))))


@pytest.mark.parametrize("name", graphs.ALL)
def test_every_arrow_joins_boxes_and_every_box_is_reached(name: str) -> None:
    graph = graphs.ALL[name]
    for flow in (whole(graph), folded(graph, 5)):
        ids = [box.id for box in flow.boxes]
        assert len(ids) == len({*ids})
        order = {box: k for k, box in enumerate(ids)}
        # Downwards, always: execution has an order. (A layer of a shortcut is drawn before the merge it leads to.)
        assert all(order[a.start] < order[a.end] for a in flow.arrows)
        assert {a.end for a in flow.arrows} == {*ids} - {"input"}
    assert len([box for box in whole(graph).boxes if box.kind == "merge"]) == len(graph.skips)


def test_folding_counts_every_skip_once() -> None:
    for graph in (graphs.resnet152(), graphs.llama(), graphs.unet(4, 8), graphs.dense(40)):
        flow = folded(graph, 6)
        inside = sum(int(n) for box in flow.boxes for n in re.findall(r", (\d+) skip", box.lines[-1]))
        across = 0
        for a in flow.arrows:
            if a.skip:
                across += sum(int(n or 1) for n in re.findall(r"(?:^|, )(?:(\d+) × )?\w+ \w+", a.label))
        assert inside + across == len(graph.skips)
        assert len(flow.boxes) <= 8


@pytest.mark.parametrize("name", ["residual", "unet", "every_kind"])
def test_golden(name: str, snapshot: SnapshotAssertion) -> None:
    small = {"residual": graphs.residual((1, 1)), "unet": graphs.unet(2, 1), "every_kind": graphs.every_kind()}[name]
    assert mermaid(small) == snapshot(name="mermaid")
    assert dot(small) == snapshot(name="dot")


# -- Mermaid ---------------------------------------------------------------------------------------

_TEXT = r'"(?:[A-Za-z0-9 ._,+\-/()×→…]|#\d+;|<br/>)*"'
_LINE = re.compile(
    rf"flowchart TD|  %% [^{{}}]*|  subgraph s\d+\[{_TEXT}\]|  end"
    rf"|(?:  ){{1,2}}\w+(?:\(\[{_TEXT}\]\)|\(\({_TEXT}\)\)|\[\[{_TEXT}\]\]|\[{_TEXT}\])"
    rf"|  \w+ (?:-->|-\.->|==>)(?:\|{_TEXT}\|)? \w+"
)


@pytest.mark.parametrize("name", graphs.ALL)
def test_mermaid_is_of_the_few_forms_that_are_known_to_parse(name: str) -> None:
    text = mermaid(graphs.ALL[name])
    for line in text.splitlines():
        assert _LINE.fullmatch(line), line
    assert text.count("subgraph") == len(re.findall("^  end$", text, re.MULTILINE))


def test_mermaid_keeps_within_its_limits_and_says_when_it_folds() -> None:
    flat = SkipGraph(
        tuple(graphs.skip(f"s{i}", i, i + 2) for i in range(900)),
        layers=tuple(graphs.layer(f"layer{i}" + "x" * 300) for i in range(902)),
    )
    for graph in (graphs.resnet152(), graphs.llama(), graphs.dense(200), flat):
        text = mermaid(graph)
        arrows = len(re.findall("-->|-.->|==>", text))
        assert arrows <= MAX_EDGES
        assert len(text) <= MAX_TEXT
        assert f"%% folded: {len(graph.layers)} layers in " in text
        assert len(re.findall(r"^  g\d+\[", text, re.MULTILINE)) <= MOST_GROUPS
    assert "folded" not in mermaid(graphs.unet())


def test_a_u_net_folded_still_shows_its_long_skips() -> None:
    text = mermaid(graphs.unet(5, 30))
    assert "folded" in text
    assert text.count("==>") == 4
    assert '"middle<br/>30 layers, 1 skip"' in text  # the innermost bypasses the middle alone


# -- DOT -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", graphs.ALL)
def test_graphviz_takes_it(name: str) -> None:
    program = shutil.which("dot")
    if program is None:
        pytest.skip("Graphviz is not installed (apt-get install graphviz)")
    graph = graphs.ALL[name]
    done = subprocess.run([program, "-Tplain"], input=dot(graph), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    kinds = [line.split()[0] for line in done.stdout.splitlines()]
    flow = whole(graph)
    assert kinds.count("node") == len(flow.boxes)
    assert kinds.count("edge") == len(flow.arrows)


def test_no_name_breaks_out_of_a_dot_string() -> None:
    text = dot(graphs.hostile())
    # Without its strings nothing of the names is left.
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert "alert" not in bare
    assert '"' not in bare.replace('""', "")
    assert len(bare.splitlines()) == len(text.splitlines())
    assert "\x1b" not in text
