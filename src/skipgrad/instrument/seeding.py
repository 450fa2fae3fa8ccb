"""Random numbers: seeded for a trial, and given back to the caller as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seeds torch (all devices), numpy's global generator and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def kept_random(*devices: torch.device) -> Iterator[None]:
    """Restores the state of every global generator (torch's on these devices too) at its end."""
    python, numpy = random.getstate(), np.random.get_state()
    # fork_rng keeps the CPU's state always; accelerators' only where named, of one kind at a time.
    kinds: dict[str, set[torch.device]] = {}
    for device in devices:
        if device.type in ("cuda", "xpu"):
            kinds.setdefault(device.type, set()).add(device)
    try:
        with ExitStack() as stack:
            for kind, named in (kinds or {"cuda": set()}).items():
                stack.enter_context(torch.random.fork_rng(devices=sorted(named, key=str), device_type=kind))
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
