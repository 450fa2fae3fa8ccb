"""The gallery: every claim has its card and page, in a browser without errors, requests or a pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browser import assert_clean, show
from skipgrad import __version__
from skipgrad.lab import CLAIMS, Store, run_claim, write_gallery
from skipgrad.lab.draw import svg
from skipgrad.lab.picture import Picture, Point


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    store = Store(folder / "results", __version__)
    run_claim("D18", store=store)
    return write_gallery(store, folder / "site").parent


@pytest.mark.slow
def test_every_claim_has_a_card_and_a_page(site: Path) -> None:
    index = (site / "index.html").read_text("utf-8")
    for name in CLAIMS:
        assert f'href="{name.lower()}.html"' in index
        assert CLAIMS.get(name).title in (site / f"{name.lower()}.html").read_text("utf-8").replace("&#39;", "'")
    assert index.count('data-verdict="not run"') == len(list(CLAIMS)) - 1
    assert 'data-verdict="reproduced"' in index
    assert "not run" in (site / "d1.html").read_text("utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_errors_or_requests_and_fits_a_phone(
    driver: Any, site: Path, tmp_path: Path, scheme: str
) -> None:
    for page in ("index.html", "d18.html", "d1.html"):
        for width in (1280, 400):
            shot = show(driver, site / page, tmp_path / f"{page}-{width}.png", width, scheme)
            assert shot.stat().st_size > 5000
            assert_clean(driver, width)


@pytest.mark.browser
def test_the_filters_work_from_the_keyboard(driver: Any, site: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(driver, site / "index.html", tmp_path / "index.png")
    shown = "return [...document.querySelectorAll('.card')].filter(c => !c.hidden).length"
    every = driver.execute_script(shown)
    button = driver.find_element("css selector", "button[data-value='reproduced']")
    button.send_keys(Keys.ENTER)
    assert driver.execute_script(shown) == 1
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
