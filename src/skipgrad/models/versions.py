"""The versions of what a run was made with."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from skipgrad._version import __version__
from skipgrad.models.data.registry import DATA
from skipgrad.models.libraries.registry import LIBRARIES


def versions() -> dict[str, str]:
    """The versions of skipgrad, Python, torch, and those libraries of models and data that are installed."""
    out = {"skipgrad": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in sorted({entry.package for _, entry in (*LIBRARIES.items(), *DATA.items())} - {""}):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out
