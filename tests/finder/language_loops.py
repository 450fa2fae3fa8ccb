"""Nets that loop, written out from their papers, for the reference table ``zoo_language.tsv``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from finder.language_nets import D, Stack, pairs, sequence


class UniversalTransformer(nn.Module):
    """One layer called T times, a time signal before each call; ``act`` halts adaptively (Dehghani et al. 2018)."""

    def __init__(self, steps: int = 3, act: bool = False) -> None:
        super().__init__()
        self.embed, self.layer, self.steps = nn.Linear(D, D), Stack(pairs(1), embed=False), steps
        self.signal = nn.Parameter(torch.zeros(steps, 1, 1, D))
        self.halt = nn.Linear(D, 1) if act else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if self.halt is None:
            for t in range(self.steps):
                x = self.layer(x + self.signal[t])
            return x
        halting, remainders = torch.zeros_like(x[..., :1]), torch.zeros_like(x[..., :1])
        out = torch.zeros_like(x)
        for t in range(self.steps):
            p = torch.sigmoid(self.halt(x))
            running = (halting < 1).float()
            new = (halting + p * running > 0.99).float() * running
            running = (halting + p * running <= 0.99).float() * running
            halting = halting + p * running
            remainders = remainders + new * (1 - halting)
            halting = halting + new * remainders
            weight = p * running + new * remainders
            x = self.layer(x + self.signal[t])
            out = x * weight + out * (1 - weight)
        return out


class Equilibrium(nn.Module):
    """z ← tanh(W z + U x) from z = 0, four times: an unrolled deep equilibrium (Bai et al. 2019)."""

    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.u, self.w, self.steps = nn.Linear(D, D), nn.Linear(D, D), steps

    def forward(self, x: Tensor) -> Tensor:
        inject = self.u(x)
        z = torch.zeros_like(inject)
        for _ in range(self.steps):
            z = torch.tanh(self.w(z) + inject)
        return z


class RecurrentResidual(nn.Module):
    """x + RNN(norm(x)), the RNN one op (GNMT's residual stack)."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], n: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.rnns = nn.ModuleList(kind(D, D, batch_first=True) for _ in range(n))
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for rnn, norm in zip(self.rnns, self.norms, strict=True):
            x = x + rnn(norm(x))[0]
        return x


class GruCellLoop(nn.Module):
    """The cell as one op: its gates are inside."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(D, D)

    def forward(self, h: Tensor, *steps: Tensor) -> Tensor:
        for x in steps:
            h = self.cell(x, h)
        return h


class Gru(nn.Module):
    """h ← (1−z)·n + z·h, written out (Cho et al. 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.wz, self.wr, self.wn, self.uz, self.ur, self.un = (nn.Linear(D, D) for _ in range(6))

    def forward(self, h: Tensor, *steps: Tensor) -> Tensor:
        for x in steps:
            z = torch.sigmoid(self.wz(x) + self.uz(h))
            r = torch.sigmoid(self.wr(x) + self.ur(h))
            n = torch.tanh(self.wn(x) + r * self.un(h))
            h = (1 - z) * n + z * h
        return h


class GruOfSequence(Gru):
    """The same, its steps taken from one tensor: W x_t and U h then share an activation, the sequence."""

    def forward(self, h: Tensor, *steps: Tensor) -> Tensor:
        (sequence,) = steps
        return super().forward(h, *(sequence[:, t] for t in range(sequence.shape[1])))


class Lstm(nn.Module):
    """c ← f·c + i·g, h ← o·tanh(c), written out (Gers et al. 2000)."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = (nn.ModuleList(nn.Linear(D, D) for _ in range(4)) for _ in range(2))

    def forward(self, h: Tensor, c: Tensor, *steps: Tensor) -> Tensor:
        for x in steps:
            i, f, g, o = (w(x) + u(h) for w, u in zip(self.w, self.u, strict=True))
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


def _steps(n: int) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(2, D) for _ in range(n))


LOOPS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "written:universal transformer": (UniversalTransformer, sequence),
    "written:universal transformer, ACT": (lambda: UniversalTransformer(act=True), sequence),
    "written:deep equilibrium": (Equilibrium, sequence),
    "written:lstm residual": (lambda: RecurrentResidual(nn.LSTM), sequence),
    "written:gru residual": (lambda: RecurrentResidual(nn.GRU), sequence),
    "written:gru cells": (GruCellLoop, lambda: _steps(4)),
    "written:gru": (Gru, lambda: _steps(4)),
    "written:gru of a sequence": (GruOfSequence, lambda: (torch.zeros(2, D), torch.zeros(2, 3, D))),
    "written:lstm": (Lstm, lambda: _steps(5)),
}
