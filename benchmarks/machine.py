"""What a result file says of the machine, and how much memory a process took."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
import time
from pathlib import Path


def versions(*packages: str) -> str:
    """``"Python 3.11.7, torch 2.15.0, …"``; a package that is not installed is named as such."""
    words = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            words.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            words.append(f"{package} not installed")
    return ", ".join(words)


def machine() -> str:
    """Date, cores, processor architecture and memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores, {platform.machine()}, {memory:.0f} GiB"


def peak_bytes() -> int:
    """The most memory this process has had resident so far.

    From the kernel's own page where there is one: ``ru_maxrss`` of a fresh process includes what its parent held when
    it was forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Starts the count of `peak_bytes` anew; False where the kernel does not offer it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
