"""Makes the pages of the documentation that nobody writes: a sample report, the notebook as a page, the gallery.

    python benchmarks/pages.py

`make docs` calls it. They go to ``docs/generated/``, which is not committed. The report is that of a real check of some
twenty seconds of one core; the notebook is run cell by cell, and its page shows what the cells gave.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from skipgrad import __version__
from skipgrad.check import CheckOptions, check
from skipgrad.core import Recipe
from skipgrad.lab import Store, write_gallery

DOCS = Path(__file__).parents[1] / "docs"
GENERATED = DOCS / "generated"
NOTEBOOK = DOCS / "notebooks" / "first-look.ipynb"
SAMPLE = {"model": "skipgrad:plain20", "data": "digits"}
STEPS = 40


def sample_report(out: Path) -> Path:
    """The report of a small check: one page, offline."""
    with tempfile.TemporaryDirectory() as folder:
        command = f"skipgrad check {SAMPLE['model']} --data {SAMPLE['data']} --steps {STEPS}"
        result = check(CheckOptions(**SAMPLE, recipe=Recipe(steps=STEPS), out=Path(folder) / "sample", command=command))
        shutil.copy(result.report_path, out)
    return out


def run_cells(cells: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What each code cell puts out, as notebooks keep it: what it prints, then its last expression."""
    names: dict[str, Any] = {"__name__": "__main__"}
    given = []
    for number, cell in enumerate((c for c in cells if c["cell_type"] == "code"), 1):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        printed = io.StringIO()
        value = None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, f"cell {number}", "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        outputs: list[dict[str, Any]] = []
        if printed.getvalue():
            outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
        if value is not None:
            data = {"text/plain": lines(repr(value))}
            if hasattr(value, "_repr_html_"):
                data = {"text/html": lines(value._repr_html_()), "text/plain": [type(value).__name__]}
            result = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
            outputs.append(result)
        given.append(outputs)
    return given


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with what its cells give now."""
    outputs = iter(run_cells(notebook["cells"]))
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            given = next(outputs)
            count = 1 + sum(c["cell_type"] == "code" for c in cells)
            cell = {**cell, "outputs": given, "execution_count": count}
        cells.append(cell)
    return {**notebook, "cells": cells}


def as_markdown(notebook: dict[str, Any]) -> str:
    """The notebook as a page."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/html" in data:
                parts.append('<div class="cell">' + "".join(data["text/html"]) + "</div>")
            else:
                text = "".join(output.get("text") or data["text/plain"])
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    torch.set_num_threads(1)
    GENERATED.mkdir(exist_ok=True)
    notebook = executed(json.loads(NOTEBOOK.read_text("utf-8")))
    (GENERATED / "first-look.md").write_text(as_markdown(notebook), "utf-8")
    print(f"{GENERATED / 'first-look.md'}: {len(notebook['cells'])} cells")
    print(sample_report(GENERATED / "sample-report.html"))
    results = Store(Path(__file__).parent / "results" / "lab", __version__)
    print(write_gallery(results, GENERATED / "gallery"))


if __name__ == "__main__":
    main()
