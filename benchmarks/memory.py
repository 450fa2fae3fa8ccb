"""What the forward of a deep net keeps for its backward: reversible blocks and dense blocks, at several depths.

    python benchmarks/memory.py [--smoke] [--out FILE]

Counted are the bytes of torch's tensors that are live after a forward, from its CPU allocator, less those before it;
and the peak of the whole step. Exact, and the same on every run of one machine. Growth with depth is told as the slope
of log bytes over log depth.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from machine import machine, versions
from step_nets import Plainly, ours, reversible_blocks, torchvision_densenet
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile


def kept(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """(bytes live after the forward, peak of a whole step), both over what was live before."""
    model(x).float().pow(2).mean().backward()  # gradients are there from now on
    live = peak = after = 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        loss = model(x).float().pow(2).mean()
        with torch.profiler.record_function("forward is over"):
            pass
        loss.backward()
    over = False
    for event in sorted(told.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "forward is over":
            over = True
            after = live
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert over
    return after, peak


def slope(depths: list[int], sizes: list[int]) -> float:
    """Of log size over log depth, first to last."""
    return math.log(sizes[-1] / sizes[0]) / math.log(depths[-1] / depths[0])


def table(title: str, depths: list[int], x: Tensor, makes: dict[str, Callable[[int], nn.Module]]) -> list[str]:
    """The lines of one comparison."""
    lines = [
        title,
        f"  {'MiB kept after the forward / at the peak, at depth':52}" + "".join(f"{d:>16}" for d in depths),
    ]
    for name, make in makes.items():
        sizes = []
        for depth in depths:
            torch.manual_seed(0)
            sizes.append(kept(make(depth), x))
        cells = "".join(f"{f'{a / 2**20:.1f} / {b / 2**20:.1f}':>16}" for a, b in sizes)
        after = [a for a, _ in sizes]
        lines.append(f"  {name:52}{cells}   slope {slope(depths, after):.2f}, last : first {after[-1] / after[0]:.2f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small depths only")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"# python benchmarks/memory.py {' '.join(sys.argv[1:])}".rstrip(),
        f"# {machine()}",
        f"# {versions('torch', 'torchvision')}",
        "",
    ]
    lines += table(
        "reversible blocks of 64 channels on 8 × 16×16", [2, 4] if given.smoke else [10, 100],
        torch.randn(8, 64, 16, 16),
        {"plain backward": lambda d: Plainly(reversible_blocks(d)), "reversible": reversible_blocks},
    )  # fmt: skip
    lines += ["", *table(
        "DenseNet-BC, growth 12, on 4 images of 32×32", [10, 16] if given.smoke else [40, 70, 100, 190],
        torch.randn(4, 3, 32, 32),
        {
            "plain concatenation": lambda d: ours(f"densenetbc{d}", in_channels=3),
            "memory_efficient": lambda d: ours(f"densenetbc{d}", in_channels=3, memory_efficient=True),
            "torchvision": lambda d: torchvision_densenet(d, False),
            "torchvision, memory_efficient": lambda d: torchvision_densenet(d, True),
        },
    )]  # fmt: skip
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
