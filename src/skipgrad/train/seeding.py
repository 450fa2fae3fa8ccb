"""Random numbers: seeded for a trial, and given back to the caller as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seeds torch (all devices), numpy's global generator and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def kept_random(device: torch.device) -> Iterator[None]:
    """Restores the state of every global generator (torch's on ``device`` too) at its end."""
    python, numpy = random.getstate(), np.random.get_state()
    # fork_rng keeps the CPU's state always; accelerators' only where named.
    devices = [device] if device.type in ("cuda", "xpu") else []
    try:
        with torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
