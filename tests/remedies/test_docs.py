"""Every remedy has a page, and the pages' examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from skipgrad.remedies import REMEDIES

DOCS = Path(__file__).parents[2] / "docs" / "remedies"
SECTIONS = ["What it does", "Why", "Example", "When it is wrong", "What to expect"]


@pytest.mark.parametrize("name", REMEDIES.built_in)
def test_every_remedy_has_a_page_with_all_sections(name: str):
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    results = re.findall(r"`(benchmarks/results/\S+)`", text.split("## What to expect")[1])
    assert results, "name the file the figures are from, or say there that nothing has been measured"
    assert [r for r in results if not (DOCS.parents[1] / r).is_file()] == []
    assert f"({name}.md)" in (DOCS / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["index", *REMEDIES.built_in])
def test_examples_run(page: str, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL))
    exec(compile(code, page, "exec"), {})
    assert "failed" not in capsys.readouterr().out
