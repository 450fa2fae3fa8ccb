"""Tasks that need their depth: a value is carried along a sequence, by convolutions that see little each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

LENGTH, SAMPLES = 64, 2048
SPARSE = 1 / 16  # of the positions say something


class Block(nn.Module):
    """y = x + F(x); F sees four positions back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first, self.second = nn.Conv1d(width, width, 3), nn.Conv1d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Forward: (N, C, T) to (N, C, T), no position seeing a later one."""
        inner = torch.relu(self.first(nn.functional.pad(self.norm(x), (2, 0))))
        return x + self.second(nn.functional.pad(inner, (2, 0)))


class Sequence(nn.Module):
    """Inputs (N, T, 2) to two logits a position; sees 4 × num_blocks positions back."""

    def __init__(self, num_blocks: int = 16, width: int = 16) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv1d(2, width, 1), nn.Conv1d(width, 2, 1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(num_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Forward."""
        return self.head(self.blocks(self.stem(x.transpose(1, 2)))).transpose(1, 2)


def latch() -> TensorDataset:
    """At each position the bit that came with the last flag."""
    flags, bits = _drawn()
    last = torch.where(flags, torch.arange(LENGTH), -1).cummax(1).values
    told = torch.where(last >= 0, bits.gather(1, last.clamp(min=0)), 0)
    return _set(flags, bits, told)


def parity() -> TensorDataset:
    """At each position whether the bits that came with flags so far are odd."""
    flags, bits = _drawn()
    return _set(flags, bits, (flags & bits.bool()).cumsum(1) % 2)


def _drawn() -> tuple[Tensor, Tensor]:
    own = torch.Generator().manual_seed(0)
    shape = SAMPLES, LENGTH
    return torch.rand(shape, generator=own) < SPARSE, torch.randint(2, shape, generator=own)


def _set(flags: Tensor, bits: Tensor, told: Tensor) -> TensorDataset:
    return TensorDataset(torch.stack([flags.float(), 2.0 * bits - 1], -1), told.long())
