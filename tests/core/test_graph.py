"""SkipGraph: plain data that survives JSON, and answers by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import KINDS, SCHEMA, SHORTCUTS, Layer, Other, Skip, SkipGraph, Suggestion, Unknown

NAMES = st.text(min_size=1, max_size=12)
SHAPES = st.lists(st.integers(0, 2**40), max_size=5).map(tuple)
PATHS = st.lists(st.text(max_size=8), max_size=3).map(tuple)

SKIPS = st.builds(
    Skip,
    name=NAMES,
    kind=st.sampled_from(KINDS),
    shortcut=st.sampled_from(SHORTCUTS),
    long=st.booleans(),
    span=st.integers(1, 99),
    fan_in=st.integers(2, 20),
    branches=st.lists(PATHS, max_size=3).map(tuple),
    fork_shape=SHAPES,
    merge_shape=SHAPES,
    owner=st.text(max_size=8),
    shortcut_ops=PATHS,
    shortcut_modules=PATHS,
    tails=st.lists(PATHS, max_size=3).map(tuple),
    trunk=PATHS,
    previous=st.none() | NAMES,
)
GRAPHS = st.builds(
    SkipGraph,
    skips=st.lists(SKIPS, max_size=4).map(tuple),
    others=st.lists(st.builds(Other, NAMES, st.sampled_from(("parallel", "injection", "gate")), NAMES), max_size=2).map(
        tuple
    ),
    unknown=st.lists(st.builds(Unknown, NAMES, NAMES, st.integers(1, 9)), max_size=2).map(tuple),
    layers=st.lists(st.builds(Layer, NAMES, NAMES, SHAPES, NAMES), max_size=2).map(tuple),
    suggestions=st.lists(
        st.builds(Suggestion, NAMES, NAMES, st.integers(1, 9), SHAPES, SHAPES, st.sampled_from(SHORTCUTS)), max_size=2
    ).map(tuple),
    model=st.text(max_size=8),
    inputs=st.text(max_size=8),
    training=st.booleans(),
    notes=PATHS,
)


def skip(name: str, **changes: object) -> Skip:
    fields = {
        "kind": "add",
        "shortcut": "identity",
        "long": False,
        "span": 2,
        "fan_in": 2,
        "branches": (("conv1", "conv2"),),
        "fork_shape": (1, 8, 4, 4),
        "merge_shape": (1, 8, 4, 4),
    }
    return Skip(name, **(fields | changes))  # type: ignore[arg-type]


@given(GRAPHS)
def test_json_round_trip_gives_an_equal_graph(graph: SkipGraph) -> None:
    again = SkipGraph.from_json(graph.to_json())
    assert again == graph
    assert again.to_json() == graph.to_json()


def test_json_has_the_schema_and_not_the_trace() -> None:
    data = json.loads(SkipGraph((skip("a"),), found=object()).to_json())
    assert data["schema"] == SCHEMA
    assert not {"found", "trace"} & data.keys()
    assert data["skips"][0]["branches"] == [["conv1", "conv2"]]


def test_the_trace_does_not_count_in_comparing() -> None:
    assert SkipGraph((skip("a"),), found=1) == SkipGraph((skip("a"),), found=2)


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("not json", "text that is not JSON"),
        ("[1, 2]", "schema 'list', expected 1"),
        ('{"skips": []}', "schema None, expected 1"),
        ('{"schema": 99, "skips": []}', "schema 99, expected 1"),
        ('{"schema": 1, "skips": [{"name": "a"}]}', "fields that do not fit"),
        ('{"schema": 1, "skips": [3]}', "fields that do not fit"),
        ('{"schema": 1, "skips": [], "colour": "red"}', "fields that do not fit"),
    ],
)
def test_text_that_is_no_graph_says_what_it_is(text: str, received: str) -> None:
    with pytest.raises(BadInput) as caught:
        SkipGraph.from_json(text)
    assert received in str(caught.value)
    assert "skipgrad find --json" in str(caught.value)


def test_lookup_by_name() -> None:
    graph = SkipGraph((skip("layer1.0"), skip("layer1.1")))
    assert graph["layer1.1"].name == "layer1.1"
    assert len(graph) == 2
    assert [s.name for s in graph] == ["layer1.0", "layer1.1"]


def test_wrong_name_offers_the_nearest() -> None:
    graph = SkipGraph((skip("layer1.0"), skip("layer1.1")))
    with pytest.raises(BadInput) as caught:
        graph["layer1.2"]
    message = str(caught.value)
    assert "looking up the skip 'layer1.2'" in message
    assert "no skip of that name among 2" in message
    assert "layer1.0" in message


def test_count_by_kind_shortcut_and_length() -> None:
    graph = SkipGraph(
        (skip("a"), skip("b", shortcut="projection"), skip("c", kind="concat", long=True), skip("d", long=True))
    )
    assert graph.count() == 4
    assert graph.count("add") == 3
    assert graph.count("add", shortcut="identity") == 2
    assert graph.count(long=True) == 2
    assert graph.count("add", long=True) == 1
    assert graph.count("gate") == 0
