"""The pages of the lab say what the claims state and what was measured: ``python benchmarks/lab.py`` writes them."""

from __future__ import annotations

import importlib
import sys

import pytest

from docs.site import ROOT


def test_the_pages_of_the_lab_are_those_of_the_claims_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    texts = importlib.import_module("lab").texts()
    sys.modules.pop("lab")
    assert len(texts) > 15
    stale = [
        p
        for p, t in texts.items()
        if not (ROOT / "docs/lab" / p).is_file() or (ROOT / "docs/lab" / p).read_text("utf-8") != t
    ]
    assert stale == [], "run python benchmarks/lab.py"
