"""The autograd function behind reversible blocks: keeps the last output, and computes the rest again in the
backward."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import get_device_states, set_device_states


class Block(Protocol):
    """What is run and run back."""

    def apply_branch(self, name: str, x: Tensor) -> Tensor:
        """F(x) or G(x)."""
        ...


class Reversed(torch.autograd.Function):
    """A run of reversible blocks, ``(blocks, x1, x2, *their parameters)`` → (y1, y2)."""

    @staticmethod
    def forward(ctx: Any, blocks: Sequence[Block], x1: Tensor, x2: Tensor, *params: Tensor) -> tuple[Tensor, Tensor]:
        ctx.blocks, ctx.params = blocks, params
        ctx.around = _Around(x1.device)
        ctx.draws = []
        for block in blocks:
            ctx.draws.append(_Draws(x1.device, ctx.draws))
            x1 = x1 + block.apply_branch("f", x2)
            ctx.draws.append(_Draws(x1.device, ctx.draws))
            x2 = x2 + block.apply_branch("g", x1)
        ctx.save_for_backward(x1.detach(), x2.detach())
        return x1, x2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d1: Tensor, d2: Tensor) -> tuple[Any, ...]:
        y1, y2 = ctx.saved_tensors
        given: dict[int, Tensor] = {}
        asked = {id(p) for p in ctx.params}
        draws = list(ctx.draws)
        with ctx.around.again():
            for block in reversed(ctx.blocks):
                for name in ("g", "f"):
                    # y2 = x2 + G(y1): from y1 and y2 to x2, and then with the halves' parts swapped for F.
                    y2, d1 = _back(block, name, y1, y2, d1, d2, draws.pop(), asked, given)
                    y1, y2, d1, d2 = y2, y1, d2, d1
        return None, d1, d2, *(given.get(id(p)) for p in ctx.params)


def _back(
    block: Block, name: str, y1: Tensor, y2: Tensor, d1: Tensor, d2: Tensor, draws: _Draws,
    asked: set[int], given: dict[int, Tensor],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One branch run again, and back: (y2 without it, the gradient of y1 with what comes through it)."""
    x = y1.detach().requires_grad_()
    own = [p for p in getattr(block, name).parameters() if id(p) in asked]
    with torch.enable_grad(), draws.again(), statistics_left_alone([getattr(block, name)]):
        f = block.apply_branch(name, x)
    with torch.no_grad():
        before = y2 - f
        if not f.requires_grad:
            return before, d1
        grads = torch.autograd.grad(f, [x, *own], d2.to(f.dtype), allow_unused=True)
        for p, grad in zip(own, grads[1:], strict=True):
            if grad is not None:
                given[id(p)] = given[id(p)] + grad if id(p) in given else grad
        return before, d1 if grads[0] is None else d1 + grads[0]


class _Draws:
    """The state of the random generators at one moment, to draw the same again.

    A state has some kilobytes: where nothing was drawn since the moment before, it is that moment's.
    """

    def __init__(self, device: torch.device, before: list[_Draws]) -> None:
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(torch.empty(0, device=device))
        self.kind = device.type
        if before:
            self.cpu = _the_same(before[-1].cpu, self.cpu)
            if before[-1].devices == self.devices:
                self.states = [_the_same(a, b) for a, b in zip(before[-1].states, self.states, strict=True)]

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        with torch.random.fork_rng(self.devices, device_type=self.kind if self.devices else "cuda"):
            torch.set_rng_state(self.cpu)
            if self.devices:
                set_device_states(self.devices, self.states, device_type=self.kind)
            yield


def _the_same(before: Tensor, now: Tensor) -> Tensor:
    """The tensor there was before, where the new one is equal to it."""
    return before if torch.equal(before, now) else now


class _Around:
    """The autocast that a forward runs under."""

    def __init__(self, device: torch.device) -> None:
        kinds = [kind for kind in {device.type, "cpu"} if torch.amp.is_autocast_available(kind)]
        self.kinds = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds]
        self.cached = torch.is_autocast_cache_enabled()

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for kind, enabled, dtype in self.kinds:
                stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=self.cached))
            yield


@contextlib.contextmanager
def statistics_left_alone(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Batch norms do not count a batch a second time."""
    norms = [
        m
        for module in modules
        for m in module.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training
    ]
    tracked = [m for m in norms if m.track_running_stats]
    for m in tracked:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in tracked:
            m.track_running_stats = True
