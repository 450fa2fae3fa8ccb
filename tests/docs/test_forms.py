"""The pages of the forms say what the entries state: ``python benchmarks/forms.py`` writes them."""

from __future__ import annotations

import importlib
import sys

import pytest

from docs.site import ROOT


def test_the_pages_of_the_forms_are_those_of_the_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    texts = importlib.import_module("forms").texts()
    sys.modules.pop("forms")
    there = {p for p in texts if (ROOT / "docs" / p).is_file()}
    assert there == set(texts)
    stale = [p for p, text in texts.items() if (ROOT / "docs" / p).read_text("utf-8") != text]
    assert stale == [], "run python benchmarks/forms.py"
    left = {f"{d}/{p.name}" for d in ("forms", "images/forms") for p in (ROOT / "docs" / d).iterdir()} - set(texts)
    assert left == set()
