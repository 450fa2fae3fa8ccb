"""What a watch costs: a training step with the ledger on against one without, interleaved.

    python benchmarks/overhead.py [--rounds 15] [--threads 1]

Every variant owns a copy of the model and an optimizer; in each round every variant takes one step, in an order
shuffled anew. Printed: the median time of a plain step, and per variant the median and the quartiles of its ratio to
the plain step of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import skipgrad as sg
from skipgrad.models import resolve_model


def nets() -> dict[str, tuple[Callable[[], nn.Module], Any, Any]]:
    """name: (model, inputs, labels)."""
    import torchvision
    import transformers

    gpt2 = transformers.GPT2Config(n_layer=6, n_embd=256, n_head=8, vocab_size=256, bos_token_id=0, eos_token_id=0)
    ids = torch.randint(0, 256, (8, 64))
    return {
        "resnet20, 32x32, batch 32": (
            resolve_model("skipgrad:resnet20", {"width": 16, "norm": "batch", "in_channels": 3}).build,
            torch.randn(32, 3, 32, 32),
            torch.randint(0, 10, (32,)),
        ),
        "torchvision resnet50, 64x64, batch 8": (
            lambda: torchvision.models.resnet50(num_classes=10),
            torch.randn(8, 3, 64, 64),
            torch.randint(0, 10, (8,)),
        ),
        "transformers gpt2, 6 layers of 256, 8x64 tokens": (
            lambda: transformers.GPT2LMHeadModel(gpt2),
            ids,
            ids.roll(-1, 1).flatten(),
        ),
    }


class Variant:
    """A model, its optimizer and, for `every` above 0, a watch."""

    def __init__(self, model: nn.Module, x: Any, y: Any, every: int) -> None:
        self.model = copy.deepcopy(model).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)
        self.x, self.y = x, y
        self.around: Any = contextlib.nullcontext()
        if every:
            self.around = sg.watch(self.model, optimizer=self.optimizer, every=every)
        self.around.__enter__()

    def step(self) -> float:
        start = time.perf_counter()
        self.optimizer.zero_grad()
        out = self.model(self.x)
        out = out.logits.flatten(0, 1) if hasattr(out, "logits") else out
        F.cross_entropy(out, self.y).backward()
        self.optimizer.step()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} thread(s), {given.rounds} rounds, {time.strftime('%Y-%m-%d')}")
    for name, (make, x, y) in nets().items():
        torch.manual_seed(0)
        model = make()
        variants = {
            "plain": Variant(model, x, y, 0),
            "plain again": Variant(model, x, y, 0),
            "ledger, every step": Variant(model, x, y, 1),
            "ledger, every 10th": Variant(model, x, y, 10),
        }
        times: dict[str, list[float]] = {v: [] for v in variants}
        for variant in variants.values():
            variant.step()
            variant.step()
        shuffle = random.Random(0)
        for _ in range(given.rounds):
            for key in shuffle.sample(list(variants), len(variants)):
                times[key].append(variants[key].step())
        print(f"{name}: plain step {1e3 * statistics.median(times['plain']):.1f} ms")
        for key in variants:
            ratios = sorted(a / b for a, b in zip(times[key], times["plain"], strict=True))
            quarter = len(ratios) // 4
            mean = sum(times[key]) / sum(times["plain"])
            print(
                f"  {key:22s} median {statistics.median(ratios):.3f}x "
                f"[{ratios[quarter]:.3f}-{ratios[-1 - quarter]:.3f}], of the sums {mean:.3f}x"
            )
        for variant in variants.values():
            variant.around.__exit__(None, None, None)


if __name__ == "__main__":
    main()
