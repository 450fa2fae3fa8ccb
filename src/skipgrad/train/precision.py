"""Number formats: autocast, and a gradient scaler where the format needs one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from skipgrad.core.recipe import Precision

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The context a forward runs in."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:  # pyright: ignore[reportPrivateImportUsage]
    """A gradient scaler; one that does nothing unless the format is float16."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")  # pyright: ignore[reportPrivateImportUsage]
