"""The page in a browser: no errors, no requests, legible when small and in the dark, and the slider slides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browser import assert_clean, show
from report import synthetic
from skipgrad.report import html

pytestmark = pytest.mark.browser
RUNS = ("plain56", "resnet152_sick", "unet", "interrupted", "nothing", "all_nan", "hostile")


def opened(driver: Any, folder: Path, name: str, width: int = 1280, scheme: str = "light") -> Path:
    """Opens a synthetic run's page; returns a screenshot."""
    path = folder / f"{name}.html"
    path.write_text(html(getattr(synthetic, name)()), "utf-8")
    return show(driver, path, folder / f"{name}-{width}-{scheme}.png", width, scheme)


@pytest.mark.parametrize("name", RUNS)
def test_it_opens_without_errors_or_requests_and_fits_a_phone(driver: Any, tmp_path: Path, name: str) -> None:
    for width in (1280, 400):
        shot = opened(driver, tmp_path, name, width)
        assert shot.stat().st_size > 5000
        assert_clean(driver, width)
    assert driver.execute_script("return window.hacked === undefined && document.images.length === 0")


def test_the_verdict_and_marks_stand_on_the_first_screen(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, "plain56")
    bottom = driver.execute_script("return document.querySelector('.marks').getBoundingClientRect().bottom")
    assert bottom < 720


def test_the_path_lengths_are_drawn_with_their_means(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, "plain56")
    for name in ("paths-share", "paths-norm"):
        drawn = driver.execute_script(
            f"const c = document.querySelector('[data-chart=\"{name}\"]');"
            "return ['.mark-line.role-mark path', '.mark-rule.role-mark line'].map(m => c.querySelectorAll(m).length)"
        )
        assert drawn == [2, 2]  # before the first step and after the last


def widths(driver: Any) -> list[float]:
    return driver.execute_script(
        "return [...document.querySelectorAll('.arc .line')].map(p => +p.getAttribute('stroke-width'))"
    )


def slide(driver: Any, to: str) -> None:
    driver.execute_script(
        f"const s = document.getElementById('step'); s.value = {to}; s.dispatchEvent(new Event('input'));"
    )


def test_the_slider_changes_arcs_and_bars(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, "plain56")
    heights = "return [...document.querySelectorAll('.bar')].map(b => b.getAttribute('height')).join()"
    first, bars = widths(driver), driver.execute_script(heights)
    assert len(first) == 27
    slide(driver, "s.max")
    last = widths(driver)
    assert sum(last) < 0.8 * sum(first)  # the synthetic shares drift to the branch
    assert driver.execute_script(heights) != bars
    assert driver.execute_script("return document.getElementById('step-name').textContent") == "190"
    slide(driver, "0")
    # What JavaScript draws at the first step is what Python had drawn.
    assert widths(driver) == pytest.approx(first, abs=0.02)


def test_script_and_python_agree_on_the_first_step(driver: Any, tmp_path: Path) -> None:
    import re

    opened(driver, tmp_path, "resnet152_sick")
    drawn = re.findall(
        r'class="line" d="[^"]*" stroke-width="([0-9.]+)"', (tmp_path / "resnet152_sick.html").read_text()
    )
    assert widths(driver) == pytest.approx([float(w) for w in drawn], abs=0.05)


def test_hovering_tells_the_numbers(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, "unet")
    driver.execute_script(
        "document.querySelector('.arc').dispatchEvent(new PointerEvent('pointermove', {clientX: 300, clientY: 300}))"
    )
    tip = driver.execute_script("const t = document.getElementById('tip'); return [t.hidden, t.textContent]")
    assert tip[0] is False
    assert "share of the gradient" in tip[1]
    assert "‖S‖" in tip[1]
    assert "at step 0" in tip[1]


def test_it_follows_the_dark(driver: Any, tmp_path: Path) -> None:
    look = (
        "const style = (q) => getComputedStyle(document.querySelector(q));"
        "return [style('body').backgroundColor, style('h1').color, style('.chart svg .role-axis-label text').fill]"
    )
    opened(driver, tmp_path, "plain56", scheme="light")
    light = driver.execute_script(look)
    opened(driver, tmp_path, "plain56", scheme="dark")
    dark = driver.execute_script(look)
    lightness = [[sum(map(int, c[4:-1].split(", "))) for c in colours] for colours in (light, dark)]
    assert lightness[0][0] > 600
    assert lightness[1][0] < 120
    assert lightness[0][1] < 200
    assert lightness[1][1] > 600
    assert lightness[0][2] < lightness[1][2]  # the figures' words follow too
