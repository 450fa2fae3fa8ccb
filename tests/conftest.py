"""Fixtures shared by the tests of several rooms."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from browser import chromium


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium."""
    yield from chromium(tmp_path_factory.mktemp("profile"))


@pytest.fixture(autouse=True)
def exit_is_pythons() -> Iterator[None]:
    """wandb puts a function of its own in the place of ``sys.exit`` and leaves it there; another test pickles that."""
    before, hook = sys.exit, sys.excepthook
    yield
    sys.exit, sys.excepthook = before, hook
