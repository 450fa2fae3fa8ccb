"""Vega's JavaScript, bundled once a version and kept in the user's cache, because bundling takes over a second."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import vl_convert


def vega_js() -> str:
    """The bundle that defines ``vegaEmbed``; from the cache when it is there and whole."""
    path = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        digest, _, kept = path.read_text("utf-8").partition("\n")
        if digest == f"// {_digest(kept)}":
            return kept
    code = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue] - its stub has no default
    # A cache that cannot be written costs a second the next time, and nothing else.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, f"// {_digest(code)}\n{code}")
    return code


def cache_folder() -> Path:
    """Where this user's caches go on this system."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "skipgrad"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "skipgrad" / "Cache"
    # Path.home() raises where there is no home; expanduser leaves the ~ alone, and the write then fails quietly.
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():
        return Path(os.devnull) / "skipgrad"
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "skipgrad"


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8")).hexdigest()


def _write_whole(path: Path, text: str) -> None:
    """Under another name first, so that a second report never reads half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
