"""The sizes of x and F are read from the first step on, however a merge is written; NaN where there is none to read."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg


class Net(nn.Module):
    """x from a layer; a gate and an F from two others; and what `merged` makes of the three."""

    def __init__(self, merged: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.gate, self.branch = (nn.Linear(6, 6) for _ in range(3))
        self.merged = merged

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        return x, torch.sigmoid(self.gate(x)), torch.tanh(self.branch(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.merged(*self.parts(x))


MERGES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gate": lambda x, g, f: g * f + (1 - g) * x,
    "gate, x first": lambda x, g, f: (1 - g) * x + f * g,
    "lerp": torch.lerp,
    "addcmul": lambda x, g, f: torch.addcmul((1 - g) * x, g, f),
    "add": lambda x, _g, f: x + f,
    "add in place": lambda x, _g, f: (f * 1.0).add_(x),
    "subtraction": lambda x, _g, f: x - f,
    "concat": lambda x, _g, f: torch.cat([x, f], 1),
    "stack": lambda x, _g, f: torch.stack([x, f]).sum(0),
}


@pytest.mark.parametrize("name", MERGES)
def test_sizes_are_those_of_the_values(name: str) -> None:
    torch.manual_seed(0)
    merged = MERGES[name]
    net = Net(merged if name != "lerp" else lambda x, g, f: torch.lerp(x, f, g)).double()
    batches = [torch.randn(3, 6, dtype=torch.float64) for _ in range(3)]
    with sg.watch(net, budget=None) as ledger:
        for x in batches:
            net(x).square().sum().backward()
    assert [r.step for r in ledger.rows()] == [0, 1, 2]
    for row, batch in zip(ledger.rows(), batches, strict=True):
        x, _, f = (t.detach() for t in net.parts(batch))
        assert row.x_rms == pytest.approx(float(x.square().mean().sqrt()), rel=1e-12)
        assert row.branch_rms == pytest.approx(float(f.square().mean().sqrt()), rel=1e-12)


def test_a_size_that_cannot_be_read_is_no_number_and_no_alarm() -> None:
    """What baddbmm adds to x exists only inside it."""
    torch.manual_seed(0)
    net = Net(lambda x, _g, f: torch.baddbmm(x[None], f[None], torch.eye(6)[None])[0])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with sg.watch(net, optimizer=optimizer, budget=None) as ledger:
        for _ in range(4):
            optimizer.zero_grad()
            loss = net(torch.randn(5, 6)).square().mean()
            loss.backward()
            optimizer.step()
            ledger.loss(float(loss.detach()))
    assert all(math.isnan(r.branch_rms) for r in ledger.rows())
    assert all(r.x_rms > 0 for r in ledger.rows())
    (finding,) = [f for f in sg.diagnose(ledger) if f.code == "SG010"]
    assert finding.state == "passed"
