"""Fixtures shared by the tests of several rooms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from browser import chromium


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium."""
    yield from chromium(tmp_path_factory.mktemp("profile"))
