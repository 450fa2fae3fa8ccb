"""Random numbers: seeded for a trial, and given back to the caller as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

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


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every global generator, as tensors and plain data."""
    name, keys, *rest = np.random.get_state()
    version, inside, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.random.get_rng_state(),
        "numpy": {"kind": str(name), "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)), "rest": rest},
        "python": {"version": version, "inside": torch.tensor(inside, dtype=torch.int64), "gauss": gauss},
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts the global generators into this state."""
    torch.random.set_rng_state(state["torch"])
    kind = state["numpy"]
    np.random.set_state((kind["kind"], kind["keys"].numpy().astype(np.uint32), *kind["rest"]))
    python = state["python"]
    random.setstate((python["version"], tuple(python["inside"].tolist()), python["gauss"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
