"""What torchrun runs: every form, and every retrofit, in several processes; prints how far its gradients are off.

    torchrun --nproc-per-node 2 sharded_job.py

The reference is the same model alone, on each process's part of the batch, averaged.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import skipgrad as sg
from skipgrad.blocks.forms import FORMS
from skipgrad.core.errors import SkipgradError
from skipgrad.models import resolve_model

RETROFITS = ("rezero", "skipinit", "layerscale", "fixup", "branch-scale", "pre-norm", "stochastic-depth", "scalelong")
RETROFITS = (*RETROFITS, "deepnorm", "hyper-connections")
NET = {"scalelong": "unet", "pre-norm": "postln2", "deepnorm": "postln2", "hyper-connections": "preln2"}


def ddp(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model, find_unused_parameters=True)  # the pyramid of the example has some


def fsdp(model: nn.Module) -> nn.Module:
    fully_shard(model)
    return model


def gradients(model: nn.Module, x: Tensor, seed: int) -> list[Tensor]:
    """Gradients in the order of the parameters, whole; zeros where there is none."""
    torch.manual_seed(seed)
    out = model(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    ((out * weights).sum() + out.pow(2).sum()).backward()
    grads = []
    for p in model.parameters():
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        grads.append(grad.full_tensor() if hasattr(grad, "full_tensor") else grad)
    return grads


def moved(model: nn.Module) -> nn.Module:
    """Away from its start, where much is zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator).to(p.dtype))
    return model


def off(make: Callable[[], nn.Module], shares: list[Tensor], wrap: Callable[[nn.Module], nn.Module]) -> float:
    """The largest difference over the largest gradient."""
    rank = dist.get_rank()
    model = make()
    alone = [gradients(copy.deepcopy(model), share, 5 + k) for k, share in enumerate(shares)]
    expected = [torch.stack(g).mean(0) for g in zip(*alone, strict=True)]
    got = gradients(wrap(model), shares[rank], 5 + rank)
    scale = max(float(g.abs().max()) for g in expected)
    return max(float((a - b).abs().max()) for a, b in zip(expected, got, strict=True)) / scale


def form(name: str) -> tuple[Callable[[], nn.Module], list[Tensor]]:
    entry = FORMS.get(name)
    torch.manual_seed(0)
    model = moved(entry.example().double())
    generator = torch.Generator().manual_seed(1)
    shares = [torch.randn(entry.shape, dtype=torch.float64, generator=generator) for _ in range(2)]
    return lambda: model, shares


def retrofit(name: str) -> tuple[Callable[[], nn.Module], list[Tensor]]:
    source = resolve_model(f"skipgrad:{NET.get(name, 'resnet8')}")
    torch.manual_seed(0)
    model = source.build().double().train()
    example = source.example(device="cpu")[0][0]
    many = [2, *[1] * (example.ndim - 1)]
    generator = torch.Generator().manual_seed(1)
    if example.is_floating_point():
        shares = [torch.randn(example.repeat(many).shape, dtype=torch.float64, generator=generator) for _ in range(2)]
    else:
        shares = [torch.randint(0, 200, example.repeat(many).shape, generator=generator) for _ in range(2)]
    sg.remedy(name).plan(sg.find(model, shares[0])).apply(model)
    return lambda: moved(model), shares


def main() -> None:
    dist.init_process_group("gloo")
    told: dict[str, float | str] = {}
    for kind, names, build in (("form", tuple(FORMS), form), ("retrofit", RETROFITS, retrofit)):
        for name in names:
            for how in (ddp, fsdp):
                key = f"{kind} {name} {how.__name__}"
                try:
                    make, shares = build(name)
                    told[key] = off(make, shares, how)
                except (SkipgradError, RuntimeError, ValueError, AttributeError, TypeError) as error:
                    told[key] = f"{type(error).__name__}: {str(error)[:300]}"
                dist.barrier()
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(told, indent=1))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
