"""The stand-alone drawing: valid, legible where it is hard, told by more than colour, and safe."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from core.draw import graphs
from skipgrad.core.draw import svg
from skipgrad.core.draw.strip import HIGHEST_ARC, LETTER, NARROWEST_CELL, Strip, arc_heights

SVG = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if name in (e.get("class") or "").split()]


@pytest.mark.parametrize("name", graphs.ALL)
def test_it_is_xml_and_holds_every_skip_and_layer(name: str) -> None:
    graph = graphs.ALL[name]
    root = parsed(svg(graph))
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg", "style", "g", "rect", "path", "text", "title", "line", "circle",
    }  # fmt: skip
    assert len([g for g in of_class(root, "arc") if g.get("data-i")]) == len(graph.skips)
    assert len(of_class(root, "cell")) == len(graph.layers)


def test_golden(snapshot: SnapshotAssertion) -> None:
    text = re.sub("<style>.*?</style>", "<style/>", svg(graphs.unet(2, 1)))
    assert text.replace("><", ">\n<") == snapshot


def test_it_asks_for_nothing_and_follows_the_dark() -> None:
    text = svg(graphs.every_kind())
    assert re.findall("https?://[^\"' ]*", text) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text
    light, dark = (dict(re.findall(r"--(\w+):(#\w+)", half)) for half in text.split("@media")[:2])
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for name in ("k", "t"):
            assert contrast(colours[name], colours["p"]) >= 4.5  # WCAG AA, for text
        for name in ("add", "concat", "gate", "index"):
            assert contrast(colours[name], colours["p"]) >= 3  # for what is drawn


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_kinds_differ_in_line_style_and_are_named_in_words() -> None:
    text = svg(graphs.every_kind())
    dashes = dict(re.findall(r"\.sg-draw \.(\w+) \.line\{stroke-dasharray:([^}]*)\}", text))
    assert len({*dashes.values()}) == 4
    words = " ".join("".join(e.itertext()) for e in parsed(text).iter(f"{SVG}text"))
    for kind in ("2 add skips", "1 concat skip ", "1 gate skip", "1 index skip"):
        assert kind in f"{words} "
    assert "(projection): 1" in words
    assert "scales, slices, pools or resamples: 1" in words
    assert "concat" not in "".join(parsed(svg(graphs.residual())).itertext()).split("skip connection")[-1]


def test_a_tooltip_names_each_arc_and_layer() -> None:
    root = parsed(svg(graphs.every_kind()))
    titles = [e.findtext(f"{SVG}title") or "" for e in of_class(root, "arc") if e.get("data-i")]
    assert any(t == "net.b\nconcat, slice shortcut over 2 weighted layers, joins 3 tensors" for t in titles)
    assert any(t.startswith("the model itself\nlong index") for t in titles)
    assert of_class(root, "cell")[3].findtext(f"{SVG}title") == "net.3\nlayer 3: conv2d, returns 1×8×8×8"


def test_no_name_breaks_out() -> None:
    text = svg(graphs.hostile())
    root = parsed(text)
    assert "script" not in {e.tag.removeprefix(SVG) for e in root.iter()}
    assert "\x1b" not in text
    assert "\u202e" not in text
    text.encode("utf-8")  # a lone surrogate could not be written
    assert '</title><script>alert("x")</script>' in "".join(root.itertext())  # shown as it is


def arc_points(d: str, n: int = 240) -> list[tuple[float, float]]:
    x0, y0, *handles = (float(v) for v in re.findall(r"-?[0-9.]+", d))
    xs, ys = (x0, *handles[0::2]), (y0, *handles[1::2])

    def at(v: tuple[float, ...], t: float) -> float:
        return sum(math.comb(3, k) * (1 - t) ** (3 - k) * t**k * v[k] for k in range(4))

    return [(at(xs, i / n), at(ys, i / n)) for i in range(n + 1)]


def height_at(points: list[tuple[float, float]], x: float) -> float:
    """y of the curve at x; smaller is higher."""
    for (xa, ya), (xb, yb) in pairwise(points):
        if xa <= x <= xb:
            return ya + (yb - ya) * ((x - xa) / (xb - xa) if xb > xa else 0)
    raise AssertionError(x)


def assert_nested(graph: object) -> int:
    """Every arc lies on or above all arcs it holds; returns how many pairs there were."""
    root = parsed(svg(graph))  # type: ignore[arg-type]
    arcs = {int(g.get("data-i", "-1")): g for g in of_class(root, "arc") if g.get("data-i")}
    curves = {i: arc_points(g.find(f"{SVG}path").get("d", "")) for i, g in arcs.items()}  # type: ignore[union-attr]
    skips, pairs = graph.skips, 0  # type: ignore[attr-defined]
    for i, j in combinations(range(len(skips)), 2):
        for outer, inner in ((i, j), (j, i)):
            a, b = skips[outer], skips[inner]
            if a.start <= b.start and b.end <= a.end and (a.start, a.end) != (b.start, b.end):
                pairs += 1
                left, right = curves[outer][0][0], curves[outer][-1][0]
                for x, y in curves[inner][4:-1:4]:
                    # Path data has one decimal and the curve is cut into chords, so a third of a pixel is no crossing.
                    near = (min(max(x + d, left), right) for d in (-0.3, 0.3))
                    assert min(height_at(curves[outer], at) for at in near) <= y + 0.5, (a.name, b.name, x)
    return pairs


@pytest.mark.parametrize(("depth", "convs"), [(3, 2), (5, 2), (4, 12)])
def test_arcs_of_a_u_net_nest_without_crossing(depth: int, convs: int) -> None:
    assert assert_nested(graphs.unet(depth, convs)) >= depth * (depth - 1) / 2


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), min_size=1, max_size=12)


@settings(deadline=None)
@given(spans)
def test_any_arcs_that_hold_one_another_do_not_cross(pairs: list[tuple[int, int]]) -> None:
    skips = tuple(graphs.skip(f"s{i}", a, a + n) for i, (a, n) in enumerate(pairs))
    assert_nested(replace(graphs.EMPTY, skips=skips))
    heights = arc_heights(skips, 9.0)
    assert min(heights) > 0
    assert max(heights) <= HIGHEST_ARC + 1e-9
    for i, j in combinations(range(len(skips)), 2):
        if (skips[i].start, skips[i].end) == (skips[j].start, skips[j].end):
            assert abs(heights[i] - heights[j]) > 0.02 * max(heights[i], heights[j])  # neither hides the other


def boxes(root: ElementTree.Element, name: str) -> list[tuple[float, float, str]]:
    out = []
    for e in of_class(root, name):
        text, x = "".join(e.itertext()), float(e.get("x", "nan"))
        out.append((x - LETTER * len(text) / 2, x + LETTER * len(text) / 2, text))
    return sorted(out)


@pytest.mark.parametrize("name", ["resnet152", "llama", "unet", "dense", "residual"])
def test_no_two_labels_overlap(name: str) -> None:
    root = parsed(svg(graphs.ALL[name]))
    labels = 0
    for kind in ("name", "number", "count"):
        found = boxes(root, kind)
        labels += len(found)
        for (_, right, a), (left, _, b) in pairwise(found):
            assert right <= left, (a, b)
    assert labels > 1


def test_stages_are_named_and_blocks_numbered() -> None:
    root = parsed(svg(graphs.resnet152()))
    assert [t for _, _, t in boxes(root, "name")] == ["layer1", "layer2", "layer3", "layer4"]
    assert len(boxes(root, "number")) == 50
    numbers = [t for _, _, t in boxes(parsed(svg(graphs.llama())), "number")]
    assert numbers[0] == "0"
    assert int(numbers[-1]) >= 75


@pytest.mark.parametrize("name", graphs.ALL)
def test_a_layer_is_never_narrower_than_can_be_pointed_at(name: str) -> None:
    graph = graphs.ALL[name]
    assert Strip.of(graph, 0).cell >= NARROWEST_CELL
    for cell in of_class(parsed(svg(graph)), "layer"):
        assert float(cell.get("width", "0")) >= 0.75 * NARROWEST_CELL


def test_nothing_is_drawn_outside() -> None:
    for graph in graphs.ALL.values():
        root = parsed(svg(graph))
        width, height = float(root.get("width", "0")), float(root.get("height", "0"))
        for e in of_class(root, "hit"):
            points = arc_points(e.get("d", ""))
            assert all(0 <= x <= width and 40 <= y <= height for x, y in points)


def test_the_drawing_of_a_large_net_stays_small() -> None:
    assert len(svg(graphs.llama()).encode()) < 250_000


def test_a_growing_list_grows_thicker() -> None:
    arcs = [a for a in of_class(parsed(svg(graphs.dense(8))), "arc") if a.get("data-i")]
    by_skip = sorted(arcs, key=lambda a: int(a.get("data-i", "0")))
    widths = [float(of_class(a, "line")[0].get("stroke-width", "0")) for a in by_skip]
    assert widths == sorted(widths)
    assert widths[-1] > widths[0]
