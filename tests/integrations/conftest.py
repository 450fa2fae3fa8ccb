"""A tiny net for other people's training loops, and what every fit of it must keep to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


class Block(nn.Module):
    """y = x + F(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(torch.relu(self.first(x)))


@pytest.fixture
def tiny() -> Callable[[], nn.Module]:
    """Makes the same net, with skips "1" and "2", at every call."""

    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), Block(8), Block(8), nn.Linear(8, 1))

    return make


@pytest.fixture
def batches() -> list[torch.Tensor]:
    """Six batches of four."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 4, generator=generator) for _ in range(6)]


@pytest.fixture
def same_bits() -> Callable[[nn.Module, nn.Module], None]:
    """Asserts that two nets have the same weights, bit for bit, and have moved from where they began."""

    def check(one: nn.Module, other: nn.Module) -> None:
        for (name, a), (twin, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
            assert name == twin
            assert torch.equal(a, b), name

    return check


@pytest.fixture
def traces() -> Callable[..., dict[str, object]]:
    """What is attached to a model and its optimizer: a watch must leave it as it was."""

    def look(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, object]:
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        return {
            "hooks": {n: [len(getattr(m, h)) for h in hooks] for n, m in model.named_modules()},
            "attributes": {n: sorted(m.__dict__) for n, m in model.named_modules()},
            "forwards": {n: m.__dict__.get("forward") for n, m in model.named_modules()},
            "state": list(model.state_dict()),
            "tensor hooks": {n: len(p._backward_hooks or ()) for n, p in model.named_parameters()},
            "step hooks": (len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)),
        }

    return look
