"""Runs a page of docs/situations as its reader would, and puts what came out into it.

A ```python block is run, in order, in one namespace; one with a title is a file of that name. A line that starts with
``skipgrad`` or ``torchrun`` and is indented is a command. Each ```text block is to hold what came out since the one
before it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "situations"
MARK = "@@ end of block @@"
_PART = re.compile(
    r"^(?P<pad> *)```python(?: title=\"(?P<file>[^\"]+)\")?\n(?P<code>.*?)^(?P=pad)```$"
    r"|^    (?P<command>(?:skipgrad|torchrun) [^\n]+)$"
    r"|^```text\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PROGRAMS = {"skipgrad": ["-m", "skipgrad"], "torchrun": ["-m", "torch.distributed.run"]}


def blocks(page: str) -> list[str]:
    """What is printed on the page: its ```text blocks."""
    return [m["text"] for m in _PART.finditer(page) if m["text"] is not None]


def with_blocks(page: str, texts: list[str]) -> str:
    """The page with other ```text blocks."""
    left = iter(texts)
    return _PART.sub(lambda m: f"```text\n{next(left)}```" if m["text"] is not None else m[0], page)


def outcomes(page: str, folder: Path) -> list[str]:
    """What comes out where the page has a ```text block, each line's end trimmed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    source: list[str] = []
    for part in _PART.finditer(page):
        if part["file"]:
            (folder / part["file"]).write_text(part["code"], "utf-8")
        elif part["code"] is not None:
            lines = part["code"].splitlines()
            source.append("\n".join(line.removeprefix(part["pad"]) for line in lines))
        elif part["command"]:
            program, *words = shlex.split(part["command"])
            done = subprocess.run(
                [sys.executable, *_PROGRAMS[program], *words],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
            said = done.stdout
            if program == "skipgrad" and done.returncode:
                said = f"{done.stderr.strip().splitlines()[-1]}\nstatus {done.returncode}\n"
            assert said, done.stderr[-3000:]
            source.append(f"print({said!r}, end='')")
        else:
            source.append(f"print({MARK!r})")
    script = folder / "page.py"
    script.write_text("\n".join(source) + "\n", "utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    texts = done.stdout.split(MARK + "\n")[:-1]
    return ["".join(f"{line.rstrip()}\n" for line in text.splitlines()) for text in texts]
