"""What the path spectrum costs: exact, truncated, mean length alone, and Veit et al.'s sample, beside a plain backward.

    python benchmarks/spectrum.py [--rounds 5] [--threads 1]

Printed per net: the median seconds of each over the rounds, the residual, the signed and unsigned mean length, and how
far the sampled norms overstate the gradient. The goal: 54 blocks × 8 images in at most 2 s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine, versions
from torch import nn

import skipgrad as sg
from skipgrad.models import resolve_model
from skipgrad.probes.spectrum import sampled_spectrum


def nets() -> dict[str, tuple[Callable[[], nn.Module], torch.Tensor, torch.Tensor]]:
    """name: (model, inputs, labels)."""
    import torchvision
    import transformers

    gpt2 = transformers.GPT2Config(n_layer=6, n_embd=256, n_head=8, vocab_size=256, bos_token_id=0, eos_token_id=0)
    ids = torch.randint(0, 256, (8, 64))
    labels = torch.randint(0, 10, (8,))
    return {
        "skipgrad:resnet110 (54 blocks, width 8), 8 images of 8x8": (
            resolve_model("skipgrad:resnet110", {}).build,
            torch.randn(8, 1, 8, 8),
            labels,
        ),
        "skipgrad:resnet110 (54 blocks, width 16), 8 images of 32x32": (
            resolve_model("skipgrad:resnet110", {"width": 16, "in_channels": 3}).build,
            torch.randn(8, 3, 32, 32),
            labels,
        ),
        "torchvision resnet50 (16 blocks), 8 images of 64x64": (
            lambda: torchvision.models.resnet50(num_classes=10),
            torch.randn(8, 3, 64, 64),
            labels,
        ),
        "transformers gpt2 (12 branches of 256), 8x64 tokens": (
            lambda: transformers.GPT2LMHeadModel(gpt2),
            ids,
            ids.roll(-1, 1).flatten(),
        ),
    }


def loss_of(labels: torch.Tensor) -> Callable[[Any], torch.Tensor]:
    """Cross-entropy of logits, or of an output that has some."""

    def loss(out: Any) -> torch.Tensor:
        logits = out if isinstance(out, torch.Tensor) else out.logits
        return F.cross_entropy(logits.flatten(0, -2), labels)

    return loss


def timed(rounds: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds, and what the call returned."""
    seconds: list[float] = []
    out: Any = None
    for _ in range(rounds):
        start = time.perf_counter()
        out = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), out


def main() -> None:
    """Measures all nets in float64 and float32."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"# {machine()}; {versions('torch', 'torchvision', 'transformers')}")
    print(f"# python benchmarks/spectrum.py --rounds {given.rounds} --threads {given.threads}; seconds are medians")
    for name, (build, x, labels) in nets().items():
        for dtype in (torch.float64, torch.float32):
            torch.manual_seed(0)
            model, loss_fn = build().to(dtype), loss_of(labels)
            inputs = (x.to(dtype) if x.is_floating_point() else x,)
            graph = sg.find(model, *inputs)
            exact_s, exact = timed(given.rounds, lambda: sg.path_spectrum(model, graph, inputs, loss_fn))  # noqa: B023
            mean_s, _ = timed(
                given.rounds,
                lambda: sg.path_spectrum(model, graph, inputs, loss_fn, max_length=0),  # noqa: B023
            )
            plain_s, _ = timed(given.rounds, lambda: loss_fn(model(*inputs)).backward())  # noqa: B023
            print(f"\n{name}, {str(dtype).removeprefix('torch.')}, {exact.branches} branches, fork of {exact.at}")
            print(f"  plain forward and backward  {plain_s:7.3f} s")
            print(f"  mean length alone           {mean_s:7.3f} s")
            print(f"  exact spectrum              {exact_s:7.3f} s   residual {exact.residual:.1e}")
            print(
                f"  mean length {exact.mean_length:.2f} signed, {exact.unsigned_mean_length:.2f} unsigned; "
                f"sum of norms / gradient {exact.cancellation:.3g}"
            )
            if dtype is torch.float64 and len(exact.lengths) < 60 and plain_s < 0.2:
                sample_s, sample = timed(
                    1,
                    lambda: sampled_spectrum(model, graph, inputs, loss_fn, samples=given.samples),  # noqa: B023
                )
                print(
                    f"  sampled, {given.samples} paths a length  {sample_s:7.3f} s   "
                    f"sum of norms / gradient {sum(sample.norms):.3g}"
                )


if __name__ == "__main__":
    main()
