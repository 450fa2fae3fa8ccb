"""The documentation built once, from the files as they are, with stand-ins for the two pages that take their time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from report import synthetic
from skipgrad.report import html

ROOT = Path(__file__).parents[2]


def built(folder: Path, as_markdown: Any) -> Path:
    """The site; strict, so that a broken link or anchor fails.

    Args:
        folder: an empty one.
        as_markdown: what makes a page of the notebook.
    """
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("generated"))
    shutil.copy(ROOT / "mkdocs.yml", folder)
    (folder / "src").symlink_to(ROOT / "src")
    generated = folder / "docs" / "generated"
    generated.mkdir()
    notebook = json.loads((ROOT / "docs" / "notebooks" / "first-look.ipynb").read_text("utf-8"))
    (generated / "first-look.md").write_text(as_markdown(notebook), "utf-8")
    (generated / "sample-report.html").write_text(html(synthetic.plain56()), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "site"
