"""What a notebook shows: everything, escaped, small enough to be saved, and nothing that leaks out of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from browser import assert_clean, show
from core.draw import graphs
from skipgrad.core import SkipGraph


class Reader(HTMLParser):
    """Tags and text; checks that they close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("name", graphs.ALL)
def test_it_is_one_closed_element(name: str) -> None:
    reader = Reader(graphs.ALL[name]._repr_html_())
    assert not {*reader.tags} & {"script", "iframe", "img", "link", "object", "a"}
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("src", "href", "id")]


def test_all_there_is_to_say_is_said() -> None:
    text = "".join(Reader(graphs.every_kind()._repr_html_()).text)
    for part in (
        "5 skip connections: ", "net.b", "branches side by side", "custom::warp × 2 in the model itself",
        "no skip bridges these 2 layers", "only a part of x goes along it", "aux did not run",
    ):  # fmt: skip
        assert part in text


def test_an_empty_graph_and_a_plain_net_show_something_too() -> None:
    empty = "".join(Reader(SkipGraph(())._repr_html_()).text)
    assert "no skip connections among 0 weighted layers" in empty
    assert "<details" not in SkipGraph(())._repr_html_()
    assert "no skip connections among 11 weighted layers" in graphs.ALL["plain"]._repr_html_()


def test_a_large_graph_is_capped_and_stays_small() -> None:
    text = graphs.llama()._repr_html_()
    assert len(text.encode()) < 300_000
    assert text.count("<tr>") == 61
    assert "… and 100 more" in text


def test_no_name_breaks_out() -> None:
    text = graphs.hostile()._repr_html_()
    assert "<script" not in text
    assert "<!--" not in text
    assert '</title><script>alert("x")</script>' in "".join(Reader(text).text)
    text.encode("utf-8")


def test_every_rule_is_bound_to_our_own_classes() -> None:
    for style in re.findall("<style>(.*?)</style>", graphs.every_kind()._repr_html_()):
        flat = re.sub(r"@media\([^)]*\)\{(.*?\})\}", r"\1", style)
        selectors = [s.strip() for group in re.findall(r"([^{}]+)\{", flat) for s in group.split(",")]
        assert len(selectors) > 5
        assert [s for s in selectors if not re.match(r"\.sg-(graph|draw)\b", s)] == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_a_page_and_nothing_leaks(driver: Any, tmp_path: Path, scheme: str) -> None:
    bodies = "".join(graphs.ALL[name]._repr_html_() for name in graphs.ALL)
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><meta charset=utf-8><body data-ready=1><table><tr><td id=cell>mine</td></tr></table>"
        f"<p class=line id=line>mine</p>{bodies.replace('<details>', '<details open>')}",
        "utf-8",
    )
    for width in (1280, 400):
        show(driver, page, tmp_path / f"{width}-{scheme}.png", width, scheme)
        assert_clean(driver, width)
    assert driver.execute_script("return window.alerted === undefined && document.scripts.length") == 0
    own = "const s = getComputedStyle(document.getElementById('line')); return [s.fill, s.stroke]"
    assert driver.execute_script(own) == ["rgb(0, 0, 0)", "none"]
    paper = "return getComputedStyle(document.querySelector('.sg-draw .paper')).fill"
    light = sum(int(c) for c in re.findall(r"\d+", driver.execute_script(paper))) > 600
    assert light == (scheme == "light")


@pytest.mark.browser
def test_the_real_letters_are_no_wider_than_was_reckoned(driver: Any, tmp_path: Path) -> None:
    """Labels are placed by a width of letters that is assumed; here the browser measures them."""
    page = tmp_path / "page.html"
    for name in ("resnet152", "llama", "dense", "unet"):
        page.write_text(
            f"<!doctype html><meta charset=utf-8><body data-ready=1>{graphs.ALL[name]._repr_html_()}", "utf-8"
        )
        show(driver, page, tmp_path / f"{name}.png")
        script = (
            "return ['name','number','count'].map(c => [...document.querySelectorAll('.sg-draw .' + c)]"
            ".map(t => t.getBoundingClientRect()).map(r => [r.left, r.right]).sort((a, b) => a[0] - b[0]))"
        )
        for rects in driver.execute_script(script):
            for (_, right), (left, _) in pairwise(rects):
                assert right <= left + 0.5
        inside = (
            "const w = document.querySelector('.sg-draw').getBoundingClientRect().right;"
            "return [...document.querySelectorAll('.sg-draw text')].every(t => t.getBoundingClientRect().right <= w)"
        )
        assert driver.execute_script(inside)
