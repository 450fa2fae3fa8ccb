"""Which shortcuts are not clean, and why: a row for each reason, and for what looks like one and is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.draw.graphs import skip
from skipgrad.core import SkipGraph

SMALL = (1, 16, 4, 4)
BIG = (1, 8, 8, 8)


def why(graph: SkipGraph) -> list[tuple[str, str]]:
    return [(u.skip, u.why) for u in graph.unclean]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"shortcut": "scaled", "shortcut_ops": ("mul",)}, ["scaled"]),
        ({"shortcut": "scaled", "shortcut_ops": ("dropout",)}, ["dropout"]),
        ({"shortcut": "scaled", "shortcut_ops": ("batch_norm",)}, ["norm"]),
        ({"shortcut": "scaled", "shortcut_ops": ("linalg_norm",)}, ["scaled"]),
        ({"kind": "gate"}, ["gate"]),
        ({"kind": "gate", "shortcut": "projection"}, ["gate", "projection"]),
        ({"kind": "index"}, ["index"]),
        ({"shortcut": "projection"}, ["projection"]),
        ({"shortcut": "projection", "merge_shape": SMALL}, []),
        ({"shortcut": "pool"}, ["pool"]),
        ({"shortcut": "pool", "merge_shape": SMALL}, []),
        ({"shortcut": "resample"}, ["resample"]),
        ({"shortcut": "resample", "merge_shape": SMALL}, []),
        ({"shortcut": "slice"}, ["slice"]),
        ({"shortcut": "slice", "merge_shape": SMALL}, []),
        ({"kind": "concat", "merge_shape": (1, 16, 8, 8)}, []),
        ({"kind": "concat", "merge_shape": (1, 16, 8, 8), "shortcut": "slice"}, ["slice"]),
        ({"kind": "concat", "merge_shape": (1, 16, 6, 6), "shortcut": "slice"}, ["slice"]),
        ({"kind": "concat", "merge_shape": (1, 16, 8, 8), "shortcut": "pool"}, ["pool"]),
        ({"kind": "concat", "merge_shape": SMALL, "shortcut": "pool"}, []),
    ],
)
def test_the_shortcut_itself(fields: dict[str, Any], expected: list[str]) -> None:
    graph = SkipGraph((skip("s", 0, 2, **fields),))
    assert why(graph) == [("s", w) for w in expected]
    assert all(u.reason and u.reason[0].islower() for u in graph.unclean)


@pytest.mark.parametrize(
    ("trunk", "expected"),
    [
        ((), []),
        (("relu_",), ["activation after merge"]),
        (("layer_norm",), ["norm after merge"]),
        (("dropout", "layer_norm"), ["norm after merge"]),
        (("pow", "mean", "add", "rsqrt", "mul"), ["norm after merge"]),
        (("relu", "batch_norm"), ["norm after merge"]),
        (("layer_norm", "conv2d"), []),
        (("dropout",), []),
    ],
)
def test_between_two_skips(trunk: tuple[str, ...], expected: list[str]) -> None:
    first, second = skip("a", 0, 2), skip("b", 2, 4, previous="a", trunk=trunk)
    assert why(SkipGraph((first, second))) == [("b", w) for w in expected]
    if expected:
        assert "the merge of a" in SkipGraph((first, second)).unclean[0].reason
    # A transition between stages, a long skip, a concat, or a first skip is not held against anyone.
    for other in (
        skip("b", 2, 4, previous="a", trunk=trunk, fork_shape=SMALL, merge_shape=SMALL),
        skip("b", 2, 4, previous="a", trunk=trunk, long=True),
        skip("b", 2, 4, "concat", previous="a", trunk=trunk, merge_shape=(1, 16, 8, 8)),
        skip("b", 2, 4, trunk=trunk),
    ):
        assert why(SkipGraph((first, other))) == []


def test_both_lists_are_in_the_json_and_older_json_can_be_read() -> None:
    graph = SkipGraph((skip("s", 0, 2, shortcut="pool"),))
    data = json.loads(graph.to_json())
    assert [(u["skip"], u["why"]) for u in data["unclean"]] == [("s", "pool")]
    assert SkipGraph.from_json(graph.to_json()) == graph
    old = {k: v for k, v in data.items() if k != "unclean"}
    old["suggestions"] = [
        {"first": "a", "last": "b", "span": 2, "fork_shape": [1], "merge_shape": [1], "shortcut": "identity"}
    ]
    read = SkipGraph.from_json(json.dumps(old))
    assert read.unclean == graph.unclean
    assert read.suggestions[0].reason == ""
