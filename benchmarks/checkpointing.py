"""Peak memory and time of `sg.checkpointed` beside ``checkpoint_sequential`` and checkpointing of every block.

For each way the peak of what a forward and backward allocate (torch's profiler; weights are not counted) and the median
time of a step are measured. Then `sg.checkpointed` gets the largest budget with which its own peak, measured alike, is
no higher, and the two take turns.

    python benchmarks/checkpointing.py [--rounds 7] [--compiled]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from machine import machine, versions
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import skipgrad as sg
from skipgrad.core import BadInput
from skipgrad.train.checkpointing import Checkpointed


class Block(nn.Module):
    """x + F(x); wide blocks save four times as much as narrow ones, as nets' stages do."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def deep() -> tuple[nn.Sequential, Tensor]:
    """A hundred layers: fifty blocks of two."""
    torch.manual_seed(0)
    blocks = [Block(64, 512 if k % 5 == 0 else 128) for k in range(50)]
    return nn.Sequential(*blocks).train(), torch.randn(512, 64)


def real() -> tuple[nn.Sequential, Tensor]:
    """torchvision's resnet50 as a sequence of its blocks."""
    import torchvision

    torch.manual_seed(0)
    net = torchvision.models.resnet50()
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    blocks = [b for stage in (net.layer1, net.layer2, net.layer3, net.layer4) for b in stage]
    head = nn.Sequential(net.avgpool, nn.Flatten(), net.fc)
    return nn.Sequential(stem, *blocks, head).train(), torch.randn(4, 3, 96, 96)


def peak(net: nn.Module, step: Callable[[], Any]) -> int:
    """The most bytes that a step has allocated at a time."""
    net.zero_grad(set_to_none=True)  # before it is counted: what is freed meanwhile counts as less than nothing
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        step()
    now = most = 0
    for event in told.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def compare(make: Callable[[], tuple[nn.Sequential, Tensor]], rounds: int) -> None:
    """Peak and time of each way, and of ours at each of the others' memory."""
    net, x = make()
    graph = sg.find(net, x)

    def every(x: Tensor) -> Tensor:
        for block in net:
            x = checkpoint(block, x, use_reentrant=False)
        return x

    def step(forward: Callable[[Tensor], Tensor]) -> float:
        net.zero_grad(set_to_none=True)
        begin = time.perf_counter()
        forward(x).square().mean().backward()
        return time.perf_counter() - begin

    step(net)
    whole, plain = peak(net, lambda: step(net)), median(step(net) for _ in range(rounds))
    print(f"nothing computed again: {whole / 1e6:.1f} MB, {1000 * plain:.0f} ms")
    ways: dict[str, Callable[[Tensor], Tensor]] = {"every block": every}
    for many in (2, 4, 8):
        ways[f"checkpoint_sequential, {many} segments"] = partial(sequential, net, many)
    for way, forward in ways.items():
        most = peak(net, partial(step, forward))
        ours, mine = fitting(net, graph, x, most, partial(step, net))
        if ours is None:
            print(f"{way}: {most / 1e6:.1f} MB; sg.checkpointed has no choice with so low a peak", flush=True)
            continue
        theirs, own = [], []
        for _ in range(rounds):  # in turns
            theirs.append(step(forward))
            ours.start(net)
            own.append(step(net))
            ours.undo()
        ratio = median(b / a for a, b in zip(theirs, own, strict=True))
        print(
            f"{way}: {most / 1e6:.1f} MB, {1000 * median(theirs):.0f} ms; sg.checkpointed: {mine / 1e6:.1f} MB, "
            f"{1000 * median(own):.0f} ms, {ratio:.3f} of its time ({len(ours.segments)} blocks)",
            flush=True,
        )


def compiled(rounds: int) -> None:
    """PyTorch's own budget under ``torch.compile``, behind the same call, beside ours: each against its own plain."""
    for share in ("0.75", "0.5", "0.25"):
        told = []
        for way in ("eager", "compiled"):
            figures = []
            for memory in (None, share):
                torch._dynamo.reset()  # or what was compiled without a budget is run with one
                net, x = deep()
                ran = torch.compile(net) if way == "compiled" else net
                ours = sg.checkpointed(ran, sg.find(net, x), x, memory=memory) if memory else None
                trained(x, ran)
                figures.append((peak(net, partial(trained, x, ran)), median(trained(x, ran) for _ in range(rounds))))
                if ours is not None:
                    ours.undo()
            (most, plain), (less, again) = figures
            told.append(f"{way} {most / 1e6:.1f} to {less / 1e6:.1f} MB, {1e3 * plain:.0f} to {1e3 * again:.0f} ms")
        print(f"memory={share}: " + "; ".join(told), flush=True)


def trained(x: Tensor, net: nn.Module) -> float:
    """Seconds of a forward and a backward."""
    net.zero_grad(set_to_none=True)
    begin = time.perf_counter()
    net(x).square().mean().backward()
    return time.perf_counter() - begin


def sequential(net: nn.Sequential, many: int, x: Tensor) -> Tensor:
    """PyTorch's own for modules in a row."""
    return checkpoint_sequential(net, many, x, use_reentrant=False)


def fitting(
    net: nn.Sequential, graph: sg.SkipGraph, x: Tensor, most: int, step: Callable[[], Any]
) -> tuple[Checkpointed | None, int]:
    """`sg.checkpointed` at the largest budget whose measured peak is no higher."""
    for share in [k / 50 for k in range(49, 2, -1)]:
        try:
            ours = sg.checkpointed(net, graph, x, memory=str(share))
        except BadInput:
            break
        mine = peak(net, step)
        ours.undo()
        if mine <= most:
            return ours, mine
    return None, 0


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compiled", action="store_true", help="beside PyTorch's own budget under torch.compile alone")
    told = parser.parse_args()
    torch.set_num_threads(1)
    print(__doc__.partition("\n")[0])
    print(f"{machine()}; one thread; {versions('torch', 'torchvision')}; medians of {told.rounds} steps, in turns")
    if told.compiled:
        print("\na hundred layers")
        compiled(told.rounds)
        return
    for name, make in {"a hundred layers": deep, "resnet50": real}.items():
        print(f"\n{name}")
        compare(make, told.rounds)


if __name__ == "__main__":
    main()
