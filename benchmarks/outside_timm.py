"""timm's models for `outside.py`, at the sizes its own tests take for a backward."""

from __future__ import annotations

from typing import Any

import torch
from outside_job import Made, judged
from outside_job import prepare as prepare  # the pool asks a job's module for it
from sweep_names import timm_names

LARGEST, WANTED = 320, 128  # pixels: inputs above the first are left out, others are made as small as the second
CLASSES = 42


def names() -> list[str]:
    """All of timm's architectures, the smallest of each family first."""
    first = timm_names(every=False)
    return [n.removeprefix("timm:") for n in (*first, *(n for n in timm_names(every=True) if n not in set(first)))]


def examine(ref: str) -> dict[str, Any]:
    """One architecture: ``timm::NAME``."""
    name = ref.split("::")[1]
    return {"ref": name, "models": {name: judged(lambda: made(name))}, "seconds": 0.0}


def made(name: str) -> Made:
    """The model with few classes, and two images."""
    import timm

    with torch.device("meta"):
        config = timm.create_model(name, pretrained=False).default_cfg
    size = config["input_size"]
    if not (config.get("fixed_input_size") or size[-1] <= WANTED):
        least = config.get("min_input_size")
        size = tuple(least) if least else (size[0], WANTED, WANTED)
    if max(size) > LARGEST:
        raise MemoryError(f"its inputs have {max(size)} pixels a side")
    model = timm.create_model(name, pretrained=False, num_classes=CLASSES)
    return model, (torch.randn(2, *size),), {}
