"""Fixtures shared by the tests of several rooms, a cache of compiled code for each processor, and what was skipped."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from skip_hints import hint

# What decides which vector units torch and the libraries below it use.
VECTOR_UNITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder(os.environ))


def cache_folder(environ: Any) -> Path:
    """Compiled kernels of one processor and setting: loaded under another they end the process."""
    import torch

    flags = next((f for f in _lines(Path("/proc/cpuinfo")) if f.startswith(("flags", "Features"))), "")
    settings = [f"{name}={environ.get(name, '')}" for name in VECTOR_UNITS]
    said = "\n".join([torch.__version__, torch.backends.cpu.get_cpu_capability(), flags, *settings])
    key = f"skipgrad-tests-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    given = environ.get("TORCHINDUCTOR_CACHE_DIR")
    base = Path(given) if given else Path(tempfile.gettempdir()) / f"torchinductor-{os.getuid()}"
    return base if base.name == key else base / key  # a worker of xdist has it from the process that started it


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


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
