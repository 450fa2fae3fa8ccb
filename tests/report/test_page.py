"""The page as text: escaped, self-contained, small, and quick to make."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from report import synthetic
from skipgrad.core import OutputError
from skipgrad.core.draw import svg
from skipgrad.report import html, strip_svg, vega, write_html
from skipgrad.store import RunWriter

RUNS = ("plain56", "healthy", "resnet152_sick", "unet", "interrupted", "nothing", "all_nan", "hostile")
_VOID = {"meta", "link", "input", "br", "img"}


class _Reader(HTMLParser):
    """Collects tags, attributes and the text of scripts; fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[self.tags[-1][1].get("id") or str(len(self.scripts))] = data
        else:
            self.text.append(data)


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("name", RUNS)
def test_pages_are_well_formed_and_hold_all_they_need(name: str) -> None:
    page = html(getattr(synthetic, name)())
    reader = read(page)
    for tag, attributes in reader.tags:
        for key in ("src", "href", "srcset", "action", "poster", "data"):
            assert (attributes.get(key) or "data:").startswith("data:"), (tag, attributes)
        assert not any(key.startswith("on") for key in attributes)
    assert [h.split()[0] for h in re.findall("</span><h2>([^<]*)</h2>", page)] == ["Where", "How", "What"]
    json.loads(reader.scripts["strips-data"])
    json.loads(reader.scripts["charts-data"])


def test_names_from_the_model_stay_text() -> None:
    page = html(synthetic.hostile())
    reader = read(page)
    assert "alert(" not in "".join(code for key, code in reader.scripts.items() if not key.endswith("-data"))
    assert not any(tag == "img" for tag, _ in reader.tags)
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == 4
    assert '<script>alert("x")' not in page
    assert "{{7*7}}" in page  # the template engine did not compute it
    assert "<!--" not in "".join(reader.scripts[k] for k in ("strips-data", "charts-data"))
    assert '</script><script>alert("x")' in "".join(reader.text)  # shown as it is


def test_a_strip_escapes_too_and_arcs_without_measurement_are_dashed() -> None:
    graph = synthetic.hostile().graph
    assert graph is not None
    reader = read(strip_svg(graph))
    assert {tag for tag, _ in reader.tags} <= {"svg", "g", "rect", "path", "text", "title", "line"}
    arcs = [a for tag, a in reader.tags if tag == "g" and (a["class"] or "").startswith("arc")]
    assert len(arcs) == len(graph.skips)
    assert all("unmeasured" in (a["class"] or "") for a in arcs)
    assert "<svg" in strip_svg(replace(graph, skips=(), layers=()))


def test_the_strip_is_the_bare_drawings_with_measurements_on_top() -> None:
    graph = synthetic.unet_graph(3)
    measured = strip_svg(graph, skip_norms=(1.0, 1.0, None), branch_norms=(0.0, 1.0, 1.0))
    feet = [
        re.findall(r'class="line" d="M([0-9.]+),[0-9.]+C.*? ([0-9.]+),[0-9.]+"', text)
        for text in (measured, svg(graph))
    ]
    assert len(feet[0]) == len(graph.skips)
    assert feet[0] == feet[1][: len(graph.skips)]


def test_the_width_of_an_arc_is_the_shortcuts_share() -> None:
    graph = synthetic.unet_graph(3)
    widths = {}
    reader = read(strip_svg(graph, skip_norms=(1.0, 1.0, None), branch_norms=(0.0, 1.0, 1.0)))
    for (_, group), (_, line) in zip(reader.tags, [*reader.tags[3:]], strict=False):
        if (group.get("class") or "").startswith("arc"):
            widths[group["data-i"]] = float(line["stroke-width"] or 0)
    assert widths == {"0": 8.0, "1": pytest.approx((8.0 + 0.75) / 2, abs=0.01), "2": 1.0}


def test_a_large_run_stays_small_and_quick() -> None:
    run = synthetic.healthy()
    steps = tuple(range(0, 2000, 10))  # 200 steps of 50 skips and 152 layers
    assert run.graph is not None
    run = replace(
        run,
        skip_rows={0: synthetic.skip_rows(run.graph, steps)},
        layer_rows={0: synthetic.layer_rows(run.graph, 0.4, steps)},
    )
    html(run)  # fills the cache
    begin = time.perf_counter()
    page = html(run)
    assert time.perf_counter() - begin < 5  # 0.7 s on two idle cores
    assert len(page.encode()) < 5e6
    assert "of 200 measured steps" in page


_REPORT = """
import sys
from skipgrad.store import read_run
from skipgrad.report import write_html
write_html(read_run(sys.argv[1]), sys.argv[2])
assert "torch" not in sys.modules
"""


def test_a_report_from_a_run_file_imports_no_torch(tmp_path: Path) -> None:
    run = synthetic.plain56()
    with RunWriter.create(tmp_path / "run.db", run.meta) as writer:
        assert run.graph is not None
        writer.graph(run.graph).losses(run.losses).findings(run.findings).cures(run.cures)
        for trial in run.trials:
            writer.trial(trial)
        for key, rows in run.layer_rows.items():
            writer.layer_rows(key, rows).skip_rows(key, run.skip_rows.get(key, ())).paths(key, run.paths.get(key, ()))
        writer.graph(run.graphs[40], trial=40).note(run.notes[0])
    subprocess.run([sys.executable, "-c", _REPORT, tmp_path / "run.db", tmp_path / "r.html"], check=True)
    written = replace(run, path=str(tmp_path / "run.db"))
    assert (tmp_path / "r.html").read_text("utf-8") == html(written)


def test_the_bundle_is_made_once_and_a_spoilt_copy_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vega.vl_convert, "javascript_bundle", lambda: made.append(1) or "window.vegaEmbed = 1;")
    assert vega.vega_js() == vega.vega_js() == "window.vegaEmbed = 1;"
    assert len(made) == 1
    (cached,) = (tmp_path / "skipgrad").iterdir()
    cached.write_text(cached.read_text()[:-4])
    assert vega.vega_js() == "window.vegaEmbed = 1;"
    assert len(made) == 2
    assert [p.name for p in (tmp_path / "skipgrad").iterdir()] == [cached.name]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(vega.vl_convert, "javascript_bundle", lambda: "code")
    assert vega.vega_js() == "code"


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_html(synthetic.nothing(), tmp_path / "new" / "report.html")
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert os.listdir(path.parent) == ["report.html"]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="writing the report"):
        write_html(synthetic.nothing(), tmp_path / "file" / "report.html")
    with pytest.raises(OutputError):
        write_html(synthetic.nothing(), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "new"]
