"""The gallery: every claim has its card and page, in a browser without errors, requests or a pointer."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from browser import assert_clean, show
from skipgrad import __version__
from skipgrad.lab import CLAIMS, Store, run_claim, write_gallery
from skipgrad.lab.contour import heights, levels, surface_data
from skipgrad.lab.draw import svg
from skipgrad.lab.picture import Picture, Point, contours, drawn_only
from skipgrad.lab.store import Result


def plane(model: str) -> dict[str, float]:
    """Figures of D5: bowls, one much steeper, with a point that is not finite."""
    values: dict[str, float] = {}
    for name, steep in ((" with skips", 1.0), (" without", 400.0)) if not model else (("", 3.0),):
        for x in range(-2, 3):
            for y in range(-2, 3):
                values[f"loss{name} over x={x:g} y={y:g}"] = 0.1 + steep * (x * x + 2 * y * y)
    values[next(iter(values))] = float("nan")
    if model:
        return values | {"λmin": -1.0, "λmax": 3.0, "residual": 0.01}
    for name in ("with skips", "without"):
        values |= {f"error {name} %": 1.0, f"median |λmin/λmax| {name}": 0.1 if name == "with skips" else 0.6}
    return values | {"ratio of the medians": 6.0}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    store = Store(folder / "results", __version__)
    run_claim("D18", store=store)
    for seed, model in ((0, ""), (1, ""), (2, ""), (0, "my.py:net on my.py:data <3>")):
        store.write(
            Result("D5", seed, plane(model), 1.0, protocol=CLAIMS.get("D5").protocol, model=model, version=__version__)
        )
    return write_gallery(store, folder / "site").parent


@pytest.mark.slow
def test_every_claim_has_a_card_and_a_page(site: Path) -> None:
    index = (site / "index.html").read_text("utf-8")
    for name in CLAIMS:
        assert f'href="{name.lower()}.html"' in index
        assert CLAIMS.get(name).title in (site / f"{name.lower()}.html").read_text("utf-8").replace("&#39;", "'")
    assert index.count('data-verdict="not run"') == len(list(CLAIMS)) - 2
    assert 'data-verdict="reproduced"' in index
    assert "my.py:net on my.py:data &lt;3&gt;" in index
    for name in ("d5-loss-with-skips", "d5-loss-without", "d5-own-1-loss"):
        assert np.load(site / f"{name}.npz")["losses"].shape == (5, 5)
        assert "DIMENSIONS 5 5 1" in (site / f"{name}.vtk").read_text("utf-8")
        assert f'href="{name}.vtk"' in (site / f"{name.split('-loss')[0]}.html").read_text("utf-8")
    own = (site / "d5-own-1.html").read_text("utf-8")
    assert "no verdict is given here" in own
    assert "holds" not in own
    assert "not run" in (site / "d1.html").read_text("utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_errors_or_requests_and_fits_a_phone(
    driver: Any, site: Path, tmp_path: Path, scheme: str
) -> None:
    for page in ("index.html", "d18.html", "d1.html", "d5.html", "d5-own-1.html"):
        for width in (1280, 400):
            shot = show(driver, site / page, tmp_path / f"{page}-{width}.png", width, scheme)
            assert shot.stat().st_size > 5000
            assert_clean(driver, width)


@pytest.mark.browser
def test_the_filters_work_from_the_keyboard(driver: Any, site: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(driver, site / "index.html", tmp_path / "index.png")
    shown = "return [...document.querySelectorAll('.card:not(.own)')].filter(c => !c.hidden).length"
    every = driver.execute_script(shown)
    button = driver.find_element("css selector", "button[data-value='reproduced']")
    button.send_keys(Keys.ENTER)
    assert driver.execute_script(shown) == 2
    assert button.get_attribute("aria-pressed") == "true"
    driver.find_element("css selector", "button[data-kind='topic'][data-value='memory']").send_keys(Keys.SPACE)
    assert driver.execute_script(shown) == 0
    for kind in ("verdict", "topic"):
        driver.find_element("css selector", f"button[data-kind='{kind}'][data-value='all']").send_keys(Keys.ENTER)
    assert driver.execute_script(shown) == every


def test_a_picture_leaves_out_what_is_not_finite_and_says_so() -> None:
    points = (Point("a", "a", 1.0, 0), Point("a", "a", float("inf"), 1), Point("b", "b", 2.0, 0))
    text = svg(Picture("dots", points, "loss & more"), "Title")
    assert "1 points are not finite" in text
    assert "loss &amp; more" in text
    assert text.count("<circle") == 2
    assert svg(Picture("dots", points[1:2], "loss"), "Title") == ""


def test_equal_points_and_one_point_have_a_place() -> None:
    same = tuple(Point(0.0, "a", 0.5, s) for s in range(3))
    for kind in ("dots", "lines"):
        assert "nan" not in svg(Picture(kind, same, "y", "x"), "T")  # type: ignore[arg-type]


def test_a_contour_has_common_levels_and_leaves_its_points_out_of_the_table() -> None:
    figures = [CLAIMS.get("D5").judged(0, plane(""))]
    picture = CLAIMS.get("D5").picture(figures)
    maps = heights(picture)
    assert [m.name for m in maps] == ["loss with skips", "loss without"]
    assert maps[0].z.shape == (5, 5)
    assert maps[1].z[2, 4] == pytest.approx(0.1 + 400 * 4)  # rows go with y, columns with x
    lines = levels(maps)
    steps = [b / a for a, b in itertools.pairwise(lines)]
    assert max(steps) == pytest.approx(min(steps))  # in equal ratios, as the heights span a factor of 20,000
    text = svg(picture, "Title")
    assert text.count('class="name"') == 2
    assert "1 points are not finite" in text
    assert "nan" not in text.lower().replace("not finite", "")
    assert surface_data(picture).count("null") == 1
    left = [n for n in figures[0].values if not drawn_only(picture, n)]
    assert "ratio of the medians" in left
    assert not any(" over x=" in n for n in left)


def test_a_flat_contour_and_one_without_finite_points_are_no_error() -> None:
    names = [f"z over x={x} y={y}" for x in range(3) for y in range(3)]
    for value, shown in ((1.0, True), (float("inf"), False)):
        figure = SimpleNamespace(seed=0, values=dict.fromkeys(names, value))
        assert bool(svg(contours([figure], ["z over "], "x", "y", "z"), "T")) == shown


@pytest.mark.browser
def test_the_heights_turn_and_are_read_from_the_keyboard_and_by_pointer(
    driver: Any, site: Path, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(driver, site / "d5.html", tmp_path / "d5.png")
    drawing, surface = (driver.find_element("css selector", s) for s in ("svg.contour", "#surface"))
    assert (drawing.is_displayed(), surface.is_displayed()) == (True, False)
    ActionChains(driver).move_to_element(drawing).perform()
    assert "loss" in driver.find_element("id", "height-read").text
    driver.find_element("css selector", "button[data-show='surface']").send_keys(Keys.ENTER)
    assert (drawing.is_displayed(), surface.is_displayed()) == (False, True)
    shape = "return document.querySelector('#surface polygon').getAttribute('points')"
    before = driver.execute_script(shape)
    surface.send_keys(Keys.ARROW_RIGHT)
    assert driver.execute_script(shape) != before
    assert driver.execute_script("return document.querySelectorAll('#surface polygon').length") == 2 * 16 - 1
    driver.save_screenshot(str(tmp_path / "surface.png"))
    assert_clean(driver, 1280)
