"""How many CPUs this process may use. No torch.

A container that is given two of 64 cores by a quota still sees 64, and so does torch, which then starts 64 threads.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

# Where the controllers are mounted when /proc/self/mountinfo does not say.
USUAL = {
    "cgroup2": ("sys/fs/cgroup", "sys/fs/cgroup/unified"),
    "cgroup": ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpuacct,cpu"),
}


def allowed_cpus(root: str | Path = "/") -> int:
    """How many CPUs this process may use at once: as many as it may run on, or fewer where a cgroup sets a quota.

    Args:
        root: where ``/proc`` and ``/sys`` are; another one in tests.

    Returns:
        At least 1; a quota of one and a half CPUs counts as 2.
    """
    quota = cpu_quota(root)
    return runnable_cpus() if quota is None else max(1, min(runnable_cpus(), math.ceil(quota)))


def runnable_cpus() -> int:
    """How many CPUs this process may run on (``taskset``, cpusets); those of the machine where that is not known."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def cpu_quota(root: str | Path = "/") -> float | None:
    """The smallest quota of the process's own cgroups and all above them, in CPUs; None where there is none.

    Reads cgroups of version 1 and 2, also both at once. A file that is missing, or holds something else, sets no quota.
    """
    quotas = [q for folder, kind in _folders(Path(root)) if (q := _quota(folder, kind)) is not None]
    return min(quotas, default=None)


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    """Every folder whose quota binds this process, with the kind of its file system."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        kind = "cgroup2" if number == "0" and not controllers else "cgroup"
        if kind == "cgroup" and "cpu" not in controllers.split(","):
            continue
        for mount, start in _mounts(root, kind):
            yield from ((folder, kind) for folder in _upwards(mount, start, path))


def _upwards(mount: Path, start: str, path: str) -> Iterator[Path]:
    """From the cgroup ``path`` up to the top of the mount, which shows the hierarchy from ``start`` on."""
    parts = [p for p in path.split("/") if p]
    top = [p for p in start.split("/") if p]
    # A path outside of what is mounted (a container that sees its host's path) is unknown here: only the top counts.
    inside = parts[len(top) :] if parts[: len(top)] == top and ".." not in parts else []
    for length in range(len(inside), -1, -1):
        yield mount.joinpath(*inside[:length])


def _mounts(root: Path, kind: str) -> list[tuple[Path, str]]:
    """Where the CPU controller of this kind is mounted, and which part of its hierarchy is shown there."""
    found = []
    for line in _lines(root / "proc/self/mountinfo"):
        left, dash, right = line.partition(" - ")
        fields, (system, *about) = left.split(), right.split() or [""]
        if not dash or system != kind or len(fields) < 5:
            continue
        if kind == "cgroup2" or "cpu" in (about[-1].split(",") if about else ()):
            found.append((root / _plain(fields[4]).lstrip("/"), _plain(fields[3])))
    return found or [(root / place, "/") for place in USUAL[kind]]


def _plain(text: str) -> str:
    """A path of mountinfo, whose spaces are written ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def _quota(folder: Path, kind: str) -> float | None:
    if kind == "cgroup2":
        words = " ".join(_lines(folder / "cpu.max")).split()
    else:
        words = [*_lines(folder / "cpu.cfs_quota_us")[:1], *_lines(folder / "cpu.cfs_period_us")[:1]]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
