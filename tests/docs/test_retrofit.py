"""The table of what the retrofits reach is that of the dated result: ``python benchmarks/retrofit.py --docs FILE``."""

from __future__ import annotations

import importlib
import re
import sys

import pytest

from docs.site import ROOT


def test_the_table_of_the_page_is_the_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    retrofit = importlib.import_module("retrofit")
    sys.modules.pop("retrofit")
    latest = sorted((ROOT / "benchmarks" / "results").glob("*-retrofit.txt"))[-1].read_text("utf-8")
    page = (ROOT / "docs" / "remedies" / "retrofit.md").read_text("utf-8")
    there = page.split(retrofit.BEGIN)[1].split(retrofit.END)[0].strip()
    assert there == retrofit.page_table(latest)
    assert set(re.findall(r"[a-z-]+(?=[,| ])", there.splitlines()[0])) >= set(retrofit.FORMS)
    assert not re.search(r" of \d+:", latest)  # what follows a colon is a fault
