"""The pages: built strictly, complete, legible at any width in light and dark, and quiet."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import skipgrad
from browser import requests

ROOT = Path(__file__).parents[2]
API = ROOT / "docs" / "api"
WIDTHS = (1280, 400)

# What is cut off: an element with text or a picture that ends beyond the window, unless a box around it scrolls; and a
# box that hides a part of its own content. `wide` is what scrolls sideways in a box of its own.
LOOK = """
const edge = document.documentElement.clientWidth + 1;
const sideways = e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
const cut = [], wide = [];
for (const e of document.querySelectorAll("header.md-header, .md-content, .md-content *, .md-footer *")) {
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  if (!box.width || !box.height || style.visibility === "hidden") continue;
  if (e.closest("svg, [hidden], .md-clipboard, .md-tooltip2")) continue;
  const name = e.tagName + "." + e.className + ": " + e.textContent.trim().slice(0, 60);
  const more = e.scrollWidth > e.clientWidth + 1;
  // A drawn SkipGraph and a row of tabs scroll by design, and show that they do.
  if (sideways(e) && more && !e.closest(".cell, .tabbed-labels")) wide.push(name);
  const hides = style.overflowX === "hidden" && e.matches("pre, code, table, td, p, div.highlight");
  if (hides && more) cut.push("hides " + name);
  if (box.right <= edge && box.left >= -1) continue;
  let scrolls = false;
  for (let p = e.parentElement; p && p !== document.body && !scrolls; p = p.parentElement) scrolls = sideways(p);
  if (!scrolls) cut.push("ends at " + Math.round(box.right) + ": " + name);
}
return [document.documentElement.scrollWidth, document.documentElement.clientWidth, cut, wide];
"""


def html_pages(site: Path) -> list[Path]:
    """Every page but the one for addresses that there are not, and the sample report, which has tests of its own."""
    return sorted(p for p in site.rglob("*.html") if p.name not in ("404.html", "sample-report.html"))


def opened(driver: Any, page: Path, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(page.as_uri())
    end = time.monotonic() + 20
    while driver.execute_script("return document.readyState") != "complete":
        assert time.monotonic() < end, page
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_cut_off_or_asks_for_anything(driver: Any, site: Path, width: int) -> None:
    faults = []
    for number, page in enumerate(html_pages(site)):
        name = str(page.relative_to(site))
        opened(driver, page, width, "dark" if number % 2 else "light")
        whole, window, cut, wide = driver.execute_script(LOOK)
        if whole > window:
            faults.append(f"{name}: {whole} wide in a window of {window}")
        faults += [f"{name}: {what}" for what in cut[:5]]
        faults += [f"{name}: code scrolls: {what}" for what in wide if what.startswith(("PRE", "CODE"))]
        if width == max(WIDTHS):
            faults += [f"{name}: scrolls: {what}" for what in wide[:5]]
        faults += [f"{name}: {entry['message']}" for entry in driver.get_log("browser")]
        asked = [url for url in requests(driver) if not url.startswith(("file://", "data:", "blob:", "about:"))]
        faults += [f"{name} asks for {url}" for url in asked]
    assert not faults, "\n".join(faults)


@pytest.mark.browser
def test_light_and_dark_differ_and_the_sample_report_is_shown(driver: Any, site: Path) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    opened(driver, site / "index.html", 1280, "light")
    light = driver.execute_script(colour)
    frame = "return document.querySelector('iframe.report').getBoundingClientRect().width"
    assert driver.execute_script(frame) > 600
    opened(driver, site / "index.html", 1280, "dark")
    end = time.monotonic() + 10
    while driver.execute_script(colour) == light:  # the theme looks at the system's colours once it has started
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (site / "generated" / "sample-report.html").exists()


@pytest.mark.browser
def test_the_search_works_in_pages_opened_from_a_file(driver: Any, site: Path) -> None:
    opened(driver, site / "situations" / "nan.html", 1280)
    driver.execute_script(
        "const i = document.querySelector('.md-search__input'); i.focus(); i.value = 'bottleneck';"
        "for (const e of [new KeyboardEvent('keyup', {bubbles: true}), new Event('input', {bubbles: true})])"
        " i.dispatchEvent(e);"
    )
    end = time.monotonic() + 30
    while "situations/unet-bottleneck.html" not in driver.execute_script(
        "return [...document.querySelectorAll('.md-search-result__link')].map(a => a.href).join()"
    ):
        assert time.monotonic() < end, driver.get_log("browser")
        time.sleep(0.1)


def rooms() -> list[str]:
    """Packages of the first level that say what is public."""
    names = [m.name for m in pkgutil.iter_modules(skipgrad.__path__) if m.ispkg]
    return [n for n in names if hasattr(importlib.import_module(f"skipgrad.{n}"), "__all__")]


def documented() -> list[str]:
    """Modules that a page of docs/api shows. (Some functions are shown by themselves.)"""
    text = "\n".join(p.read_text("utf-8") for p in sorted(API.glob("*.md")))
    shown = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    return [m for m in shown if isinstance(pkgutil.resolve_name(m), ModuleType)]


def test_every_room_has_a_page_of_the_reference() -> None:
    assert [r for r in rooms() if f"skipgrad.{r}" not in documented()] == []


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    ids = {
        i
        for page in (site / "api").glob("*.html")
        for i in re.findall(r'id="(skipgrad[^"]*)"', page.read_text("utf-8"))
    }
    missing = []
    for module in documented():
        for name in getattr(importlib.import_module(module), "__all__", ()):
            if not ids & {f"{module}.{name}", f"{module}.{name}.{name}"}:
                missing.append(f"{module}.{name}")
    assert missing == []
    index = (API / "index.md").read_text("utf-8")
    assert [name for name in skipgrad.__all__ if f"`sg.{name}`" not in index] == []


def test_every_situation_is_on_the_landing_page() -> None:
    landing = (ROOT / "docs" / "index.md").read_text("utf-8")
    situations = {p.stem for p in (ROOT / "docs" / "situations").glob("*.md")} - {"index"}
    assert len(situations) == 10
    assert [s for s in situations if f"situations/{s}.md" not in landing] == []


def test_the_notebook_gives_what_it_shows(pages: Any, request: pytest.FixtureRequest) -> None:
    import torch

    threads = torch.get_num_threads()
    notebook = json.loads(pages.NOTEBOOK.read_text("utf-8"))
    try:
        fresh = pages.executed(notebook)
    finally:
        torch.set_num_threads(threads)
    if request.config.getoption("update_snapshots", False):
        pages.NOTEBOOK.write_text(json.dumps(fresh, indent=1, ensure_ascii=False) + "\n", "utf-8")
        notebook = fresh
    shown, came = (pages.as_markdown(n) for n in (notebook, fresh))
    for text in (shown, came):
        assert "12 skips; the first: 1 add identity" in text
        assert "<svg" in text
        for code, state in (("SG002", "found"), ("SG009", "found"), ("SG008", "not applicable"), ("SG011", "skipped")):
            assert re.search(rf"^{code} {state} –", text, re.MULTILINE)
        assert "zero-init: verified" in text
        assert re.search(r"^as it is: loss \S+ to nan at the rate 0\.1$", text, re.MULTILINE)
        assert re.search(r"^cured: loss 2\.\d+ to 2\.0\d+ at the rate 0\.1$", text, re.MULTILINE)
