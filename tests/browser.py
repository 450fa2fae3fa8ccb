"""A headless Chromium that shows a report, and what it asked for and complained of meanwhile."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
]


def chromium(profile: Path) -> Iterator[Any]:
    """A driver; skips, saying why, where there is no browser."""
    for program in (BROWSER, DRIVER):
        if not program.exists():
            pytest.skip(f"{program} is not there; `sh tests/system_setup.sh` says how to get it")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield chrome
    chrome.quit()
    shutil.rmtree(profile, ignore_errors=True)


def show(driver: Any, page: Path, shot: Path, width: int = 1280, scheme: str = "light") -> Path:
    """Opens a page at a width and in a colour scheme, waits for its figures and writes a screenshot."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(page.as_uri())
    end = time.monotonic() + 20
    while not driver.execute_script("return document.body.dataset.ready"):
        assert time.monotonic() < end, driver.get_log("browser")
        time.sleep(0.05)
    image = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
    shot.write_bytes(base64.b64decode(image["data"]))
    return shot


def requests(driver: Any) -> list[str]:
    """Addresses the page has asked for since it was opened."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def assert_clean(driver: Any, width: int) -> None:
    """No console message, no request beyond the page itself, nothing wider than the window."""
    assert driver.get_log("browser") == []
    asked = requests(driver)
    assert asked
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
