"""The site and what makes its generated pages."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.site import ROOT, built


@pytest.fixture(scope="session")
def pages() -> Any:
    """`benchmarks/pages.py`."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("pages")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, pages: Any) -> Path:
    """The documentation as HTML."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    return built(tmp_path_factory.mktemp("site"), pages.as_markdown)
