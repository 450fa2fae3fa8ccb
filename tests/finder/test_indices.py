"""What goes through indices: takes and writes that change the resolution, and adds that say where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import skipgrad as sg
from finder.test_robust import One

N, M, C = 16, 6, 8
SAMPLE = torch.tensor([0, 3, 5, 8, 11, 15])
NEAREST = torch.arange(N) % M
POINTS, NODES = torch.zeros(2, N, C), torch.zeros(N, C)


def brief(graph: sg.SkipGraph) -> list[tuple[str, str, bool]]:
    return [(s.kind, s.shortcut, s.long) for s in graph]


# name: from N positions (dimension 1 of 3, or 0 of 2) to M, and back
DOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "x[:, idx]": lambda x: x[:, SAMPLE],
    "index_select": lambda x: x.index_select(1, SAMPLE),
    "gather": lambda x: x.gather(1, SAMPLE[None, :, None].expand(2, M, C)),
    "take_along_dim": lambda x: torch.take_along_dim(x, SAMPLE[None, :, None], 1),
    "batched": lambda x: x[torch.arange(2)[:, None], SAMPLE.expand(2, M)],
    "grouped": lambda x: x[torch.arange(2)[:, None, None], SAMPLE[None, :, None].expand(2, M, 4)].amax(2),
    "pooled": lambda x: F.avg_pool1d(x.transpose(1, 2), 3, 3, 1).transpose(1, 2),
}
UP: dict[str, Callable[[Tensor], Tensor]] = {
    "x[:, idx]": lambda x: x[:, NEAREST],
    "gather": lambda x: x.gather(1, NEAREST[None, :, None].expand(2, N, C)),
    "interpolated": lambda x: (x[:, torch.stack([NEAREST] * 3, 1)] * torch.ones(2, N, 3, 1)).sum(2),
    "assigned": lambda x: assigned(x),
    "index_copy": lambda x: x.new_zeros(2, N, C).index_copy(1, SAMPLE, x),
    "index_put": lambda x: x.new_zeros(2, N, C).index_put((torch.arange(2)[:, None], SAMPLE.expand(2, M)), x),
    "scatter": lambda x: x.new_zeros(2, N, C).scatter(1, SAMPLE[None, :, None].expand(2, M, C), x),
    "resized": lambda x: F.interpolate(x.transpose(1, 2), N).transpose(1, 2),
}


def assigned(x: Tensor) -> Tensor:
    out = x.new_zeros(2, N, C)
    out[:, SAMPLE] = x
    return out


@pytest.mark.parametrize("merge", ["add", "cat"])
@pytest.mark.parametrize("up", UP)
@pytest.mark.parametrize("down", DOWN)
def test_around_a_change_of_the_resolution_a_skip_is_long(down: str, up: str, merge: str) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = UP[up](self.f(DOWN[down](self.g(x))))
        return x + y if merge == "add" else torch.cat([x, y], -1)

    graph = sg.find(One(forward, g=nn.Linear(C, C)), POINTS)
    assert brief(graph) == [("add" if merge == "add" else "concat", "identity", True)]


@pytest.mark.parametrize("turn", [False, True])
def test_a_graph_u_net(turn: bool) -> None:
    """Gao and Ji (2019): the best nodes are kept, and written back to where they were."""

    def forward(self: Any, x: Tensor) -> Tensor:
        x = self.g(x)
        at = self.score(x).squeeze(-1).topk(M).indices
        h = F.relu(self.f(x[at]))
        back = x.new_zeros(N, C)
        back[at] = h
        return back + x if turn else x + back

    graph = sg.find(One(forward, g=nn.Linear(C, C), score=nn.Linear(C, 1)), NODES)
    assert brief(graph) == [("add", "identity", True)]


def test_point_net_plus_plus() -> None:
    """Qi et al. (2017): farthest points, their neighbours, and three neighbours to interpolate."""

    def farthest(xyz: Tensor, many: int) -> Tensor:
        chosen = [torch.zeros(len(xyz), dtype=torch.long, device=xyz.device)]
        far = torch.full(xyz.shape[:2], 1e9, device=xyz.device)
        for _ in range(many - 1):
            last = xyz.gather(1, chosen[-1][:, None, None].expand(-1, 1, 3))
            far = torch.minimum(far, (xyz - last).square().sum(-1))
            chosen.append(far.argmax(1))
        return torch.stack(chosen, 1)

    def taken(x: Tensor, at: Tensor) -> Tensor:
        return x[torch.arange(len(x), device=x.device).view(-1, *[1] * (at.dim() - 1)), at]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = nn.Linear(3, C), nn.Linear(C + 3, 12), nn.Linear(12 + C, C)

        def forward(self, xyz: Tensor) -> Tensor:
            x = self.stem(xyz)
            centres = taken(xyz, farthest(xyz, M))
            near = torch.cdist(centres, xyz).topk(4, largest=False).indices
            grouped = torch.cat([taken(xyz, near) - centres[:, :, None], taken(x, near)], -1)
            h = F.relu(self.a(grouped)).max(2)[0]
            d, three = torch.cdist(xyz, centres).topk(3, largest=False)
            w = (1 / (d + 1e-8)).softmax(-1)
            fine = (taken(h, three) * w[..., None]).sum(2)
            return self.b(torch.cat([x, fine], -1))

    graph = sg.find(Net(), torch.zeros(2, N, 3))
    concats = [s for s in graph if s.kind == "concat"]
    assert [(s.name, s.long, s.branches) for s in concats] == [("root", True, (("a",),))]


def test_neighbours_and_messages_leave_the_resolution_as_it_is() -> None:
    near = torch.stack([torch.arange(N), (torch.arange(N) + 1) % N, (torch.arange(N) + 2) % N], 1)
    source, target = near.flatten(), torch.arange(N).repeat_interleave(3)

    def edges(self: Any, x: Tensor) -> Tensor:  # dynamic graph CNN: neighbours of each point, and their maximum
        return x + self.f(x[:, near]).amax(2)

    def messages(self: Any, x: Tensor) -> Tensor:
        return x + torch.zeros_like(x).index_add(0, target, self.f(x[source]))

    def shuffled(self: Any, x: Tensor) -> Tensor:
        at = torch.arange(N).flip(0)
        return x + self.f(x[:, at])[:, at]

    def half_the_batch(self: Any, x: Tensor) -> Tensor:
        return x.index_add(0, torch.tensor([1]), self.f(x[torch.tensor([1])]))

    for forward, x in ((edges, POINTS), (messages, NODES), (shuffled, POINTS), (half_the_batch, POINTS)):
        assert brief(sg.find(One(forward), x)) == [("add", "identity", False)]


def test_experts_leave_the_resolution_as_it_is() -> None:
    """Each token goes to two of four experts; the scores of those are picked by index, too."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.w = nn.Linear(C, 4), nn.Parameter(torch.zeros(4, C, C))

        def forward(self, x: Tensor) -> Tensor:
            flat = x.view(-1, C)
            scores = self.router(flat).softmax(-1)
            at = scores.topk(2).indices
            chosen = scores.gather(1, at)
            token = torch.arange(len(flat), device=x.device).repeat_interleave(2)
            h = torch.einsum("tc,tcd->td", flat[token], self.w[at.flatten()]) * chosen.view(-1, 1)
            return h.view(-1, 2, C).sum(1).view_as(x)

    assert brief(sg.find(One(lambda self, x: x + self.moe(x), moe=Experts()), POINTS)) == [("add", "identity", False)]


# name: x with y added at SAMPLE, along the first dimension
ADDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "index_add": lambda x, y: x.index_add(0, SAMPLE, y),
    "index_add_": lambda x, y: x.clone().index_add_(0, SAMPLE, y),
    "index_put": lambda x, y: x.index_put((SAMPLE,), y, accumulate=True),
    "index_put_": lambda x, y: x.clone().index_put_((SAMPLE,), y, True),
    "torch.index_put": lambda x, y: torch.index_put(x, (SAMPLE,), y, accumulate=True),
    "scatter_add": lambda x, y: x.scatter_add(0, SAMPLE[:, None].expand(M, C), y),
    "scatter": lambda x, y: x.scatter(0, SAMPLE[:, None].expand(M, C), y, reduce="add"),
    "scatter_reduce": lambda x, y: x.scatter_reduce(0, SAMPLE[:, None].expand(M, C), y, reduce="sum"),
    "aten": lambda x, y: torch.ops.aten.index_put(x, [SAMPLE], y, True),
}


@pytest.mark.parametrize("add", ADDS)
def test_an_add_by_indices_is_an_add(add: str) -> None:
    def into_x(self: Any, x: Tensor) -> Tensor:  # mixture of depths: some positions go through the branch
        return ADDS[add](x, self.f(x[SAMPLE]))

    def into_f(self: Any, x: Tensor) -> Tensor:
        return ADDS[add](self.f(x), x[SAMPLE])

    def alone(self: Any, x: Tensor) -> Tensor:
        return x + ADDS[add](torch.zeros(N, C, device=x.device), self.f(x[SAMPLE]))

    for forward, shortcut in ((into_x, "identity"), (into_f, "slice"), (alone, "identity")):
        graph = sg.find(One(forward), NODES)
        assert [(s.kind, s.shortcut, s.fan_in, s.branches) for s in graph] == [("add", shortcut, 2, (("f",),))]
        assert graph.others == ()
        assert graph.unknown == ()


def test_what_alpha_belongs_to() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.f(x).index_add(0, torch.arange(N), x, alpha=0.5)

    assert brief(sg.find(One(forward), NODES)) == [("add", "slice", False)]
    twice = One(lambda self, x: x.index_add(0, torch.arange(N), self.f(x), alpha=0.5))
    assert brief(sg.find(twice, NODES)) == [("add", "identity", False)]


def test_without_accumulating_they_write() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return x.index_put((SAMPLE,), self.f(x[SAMPLE]))

    assert not any(s.kind == "add" for s in sg.find(One(forward), NODES))
