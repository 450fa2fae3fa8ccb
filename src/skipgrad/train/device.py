"""The device a trial is trained on."""

from __future__ import annotations

from typing import Any

import torch

from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import DOING


def device_of(name: Any) -> torch.device:
    """The device of that name.

    Raises:
        BadInput: this machine has none; with those that it has.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()
        raise BadInput(
            DOING,
            where="device",
            received=f"{name!r}" + (f" ({reason[0]})" if reason else ""),
            todo=f"this machine has: {', '.join(_devices())}",
        ) from error
    if device.type == "meta":
        raise BadInput(DOING, where="device", received="'meta', which holds no values", todo="give 'cpu' or 'cuda'")
    return device


def _devices() -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
