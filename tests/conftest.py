"""Fixtures shared by the tests of several rooms, a cache of compiled code for each processor, and what was skipped."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from browser import chromium
from compiled_cache import cache_folder
from skip_hints import hint


def pytest_configure(config: pytest.Config) -> None:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder(os.environ))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for each reason why tests were skipped, with what to do about it."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if not reasons:
        return
    terminalreporter.section("skipped")
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        todo = hint(reason)
        terminalreporter.write_line(f"{count} × {reason}{f' – {todo}' if todo else ''}")


def _reason(report: Any) -> str:
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return " ".join(text.removeprefix("Skipped: ").split())


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


@pytest.fixture(autouse=True)
def torchs_own_hooks_are_as_they_were() -> Iterator[None]:
    """A hook for all modules that a test leaves behind shows in another test, far away."""
    yield
    if "torch" not in sys.modules:
        return
    module = sys.modules["torch"].nn.modules.module
    left = [h for box in ("_global_forward_pre_hooks", "_global_forward_hooks") for h in getattr(module, box).values()]
    for box in ("_global_forward_pre_hooks", "_global_forward_hooks", "_global_forward_hooks_always_called"):
        getattr(module, box).clear()
    assert left == []
