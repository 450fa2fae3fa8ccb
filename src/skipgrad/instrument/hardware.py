"""What computes: times of trials can be compared where this is the same."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from skipgrad.instrument.cpus import allowed_cpus


def hardware(device: str = "cpu") -> str:
    """The GPU, or the processor and how many CPUs of it may be used, in a line; no host's name."""
    place = torch.device(device)
    if place.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name(place)
    many = allowed_cpus()
    return f"{_processor()}, {many} CPU{'s' * (many != 1)}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    except OSError:
        pass  # not Linux: Python knows less
    return platform.processor() or platform.machine()
