"""Lesions against the same nets written without the branch; and what cannot be dropped is said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from skipgrad.core import BadInput, MeasureError
from skipgrad.probes.lesion import dropped, lesions, swapped


class Block(nn.Module):
    """x + F(x), or x alone; with a sum in place where asked."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.inplace, self.off = inplace, False

    def forward(self, x: Tensor) -> Tensor:
        if self.off:
            return torch.relu(x)
        if self.inplace:
            out = self.f(x)
            out += x
            return torch.relu_(out)
        return torch.relu(x + self.f(x))


class Net(nn.Module):
    def __init__(self, inplace: bool = False, depth: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(inplace) for _ in range(depth)))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class TwoLevels(nn.Module):
    """A long skip carries the batch past the blocks: lesions cannot share a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.out = Net(), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.net.stem(x)
        return self.out(torch.cat([a, self.net.blocks(a)], 1))


def total(out: Tensor) -> float:
    return float(out.detach().double().square().sum())


def made(model: nn.Module) -> tuple[nn.Module, Tensor, sg.SkipGraph]:
    model = model.double().eval()
    x = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    return model, x, sg.find(model, x)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("reuse", [True, False])
def test_each_block_dropped_is_the_net_without_it(inplace: bool, reuse: bool) -> None:
    torch.manual_seed(0)
    model, x, graph = made(Net(inplace))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = lesions(model, graph, (x,), total, reuse=reuse)
    assert found.reused == reuse
    assert found.left == {}
    assert found.base == pytest.approx(total(model(x)), rel=1e-12)
    for i, name in enumerate(found.by_skip):
        assert name == f"blocks.{i}"
        model.blocks[i].off = True
        assert found.by_skip[name] == pytest.approx(total(model(x)), rel=1e-12)
        model.blocks[i].off = False
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_lesions_that_share_a_forward_cost_about_half_of_one_each() -> None:
    model, x, graph = made(Net(depth=20))
    found = lesions(model, graph, (x,), total)
    assert found.reused
    assert found.forwards / len(found.by_skip) <= 0.6
    assert lesions(model, graph, (x,), total, reuse=False).forwards == 20


def test_where_something_else_carries_the_batch_each_takes_its_own_forward() -> None:
    torch.manual_seed(0)
    model, x, graph = made(TwoLevels())
    found = lesions(model, graph, (x,), total)
    assert not found.reused
    assert [n for n in found.left if graph[n].kind == "concat"]
    model.net.blocks[2].off = True
    assert found.by_skip["net.blocks.2"] == pytest.approx(total(model(x)), rel=1e-12)


def test_several_dropped_together() -> None:
    torch.manual_seed(0)
    model, x, graph = made(Net())
    out = dropped(model, graph, ["blocks.1", "blocks.3"], (x,))
    model.blocks[1].off = model.blocks[3].off = True
    torch.testing.assert_close(out, model(x))


def test_two_blocks_exchanged_and_put_back() -> None:
    torch.manual_seed(0)
    model, x, _ = made(Net())
    out, first, second = model(x), model.blocks[1], model.blocks[4]
    with swapped(model, "blocks.1", "blocks.4"):
        assert model.blocks[1] is second
        assert not torch.allclose(model(x), out)
    assert (model.blocks[1], model.blocks[4]) == (first, second)
    assert torch.equal(model(x), out)
    with pytest.raises(BadInput, match="different shapes"), swapped(model, "stem", "head"):
        pass


def test_what_cannot_be_dropped_is_said() -> None:
    model, x, graph = made(TwoLevels())
    name = next(s.name for s in graph if s.kind == "concat")
    with pytest.raises(MeasureError, match="no add"):
        dropped(model, graph, [name], (x,))
    with pytest.raises(MeasureError, match="without a trace"):
        lesions(model, sg.SkipGraph.from_json(graph.to_json()), (x,), total)


def test_a_forward_that_makes_other_calls_is_no_lesion() -> None:
    model, x, graph = made(Net())
    model.blocks[0].off = True
    with pytest.raises(MeasureError, match="other calls"):
        lesions(model, graph, (x,), total)
