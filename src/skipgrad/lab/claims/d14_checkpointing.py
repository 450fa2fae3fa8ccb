"""D14: recomputing activations in segments trades compute for memory that grows as √n."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import lines
from skipgrad.lab.registry import CLAIMS

LAYERS, WIDTH, ROWS = 100, 32, 256
SEGMENTS = (1, 2, 5, 10, 14, 20, 25, 50, 100)
SHARE = 0.25


class Meter:
    """Bytes that autograd keeps, now and at most.

    Saved-tensor hooks around the whole do not see what a checkpoint without reentry saves as it recomputes; with
    reentry they do, as the recomputation is an ordinary forward in the backward. So that one is measured.
    """

    def __init__(self) -> None:
        self.live = self.peak = 0

    def pack(self, tensor: Tensor) -> Any:
        size = tensor.numel() * tensor.element_size()
        held = _Held(tensor)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(held, self._less, size)
        return held

    def _less(self, size: int) -> None:
        self.live -= size

    @staticmethod
    def unpack(held: Any) -> Tensor:
        return held.tensor


class _Held:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def run(layers: nn.Sequential, x: Tensor, segments: int) -> tuple[float, Tensor, float]:
    """Peak of saved bytes in layers' worth, the first layer's gradient, seconds; one segment is no checkpoint."""
    layers.zero_grad()
    meter = Meter()
    start = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(meter.pack, meter.unpack):
        h = x.clone().requires_grad_()
        if segments == 1:
            h = layers(h)
        else:
            size = math.ceil(len(layers) / segments)
            for i in range(0, len(layers), size):
                h = checkpoint(layers[i : i + size], h, use_reentrant=True)
        h.square().sum().backward()
    seconds = time.perf_counter() - start
    grad = next(layers.parameters()).grad
    assert grad is not None
    return meter.peak / (x.numel() * x.element_size()), grad.clone(), seconds


def one_seed(setting: Setting) -> Values:
    """A chain of layers at every number of segments."""
    with kept_random(torch.device("cpu")):
        seed_all(setting.seed)
        layers = nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)))
        x = torch.randn(ROWS, WIDTH)
    values: Values = {}
    whole: Tensor | None = None
    equal = True
    for segments in SEGMENTS:
        setting.say(f"{segments} segments")
        peak, grad, _ = run(layers, x, segments)
        values[f"peak at segments={segments}"] = peak
        whole = grad if whole is None else whole
        equal &= torch.equal(grad, whole)
    values["gradients equal to the bit"] = float(equal)
    peaks = {s: values[f"peak at segments={s}"] for s in SEGMENTS}
    values["segments with the least memory"] = float(min(peaks, key=peaks.__getitem__))
    values["least share of the whole"] = min(peaks.values()) / peaks[1]
    return values


def judge(values: Values) -> bool:
    """Least near √(2n), a small part of the whole, gradients bitwise."""
    best, ideal = values["segments with the least memory"], math.sqrt(2 * LAYERS)
    near = ideal / 2 <= best <= 2 * ideal
    return near and values["least share of the whole"] <= SHARE and values["gradients equal to the bit"] == 1


def sentence(figures: Sequence[Figure]) -> str:
    """The least and where it is."""
    best = middle(figures, "segments with the least memory")
    return (
        f"Saved activations fall from {number(middle(figures, 'peak at segments=1'))} to "
        f"{number(middle(figures, f'peak at segments={best:g}'))} layers' worth at {best:g} segments of {LAYERS} "
        "layers "
        f"(√(2n) = {math.sqrt(2 * LAYERS):.0f}), with gradients equal to the bit."
    )


CLAIM = Claim(
    id="D14",
    title="Checkpointing trades compute for memory",
    statement="Keeping only the borders of k segments and recomputing the rest takes memory of about n/k + k "
    "layers, least "
    "near √n segments, for one forward more.",
    anchor="a 1000-layer ResNet: 48 GB → 7 GB for 30 % more time (Chen et al. 2016)",
    criterion=f"the least peak of saved bytes within a factor 2 of √(2n) segments, ≤ {SHARE:g} of the whole, gradients "
    "bitwise equal",
    refutes="a peak that does not fall, or gradients that differ",
    setting=f"{LAYERS} layers of width {WIDTH} with tanh, {ROWS} rows, torch.utils.checkpoint",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: lines(
        figures, ["peak at segments="], "segments", "peak of saved activations, layers' worth", log_x=True, log_y=True
    ),
    effect="least share of the whole",
    topic="memory",
    duration="2 s",
    not_on_model="`sg.checkpointed` chooses segments of your own model by what they measure",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=114)
