"""What a model's code keeps outside of the model holds nothing of a trace's afterwards."""

from __future__ import annotations

from functools import cache, lru_cache

import torch
from torch import Tensor, nn

import skipgrad as sg

CPU = torch.device("cpu")


@cache
def places(many: int, device: torch.device) -> Tensor:
    """Where each token is."""
    return torch.arange(many, device=device)


@cache
def labels() -> list[str]:
    """Made once."""
    return ["one", "two"]


class Named(nn.Module):
    """Asks a cache for what is there already."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for label in labels():
            x = x + self.two(x) if label == "two" else self.one(x)
        return x


class Turn:
    """Counts the noises that have been taken."""

    def __init__(self) -> None:
        self.at = 0
        self.noises = [torch.zeros(4), torch.zeros(1)]


TURN = Turn()


class Cached(nn.Module):
    """Asks a cache for positions, and looks at them, which only real tensors allow."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.shift = nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(8, 4)

    @lru_cache(maxsize=None)  # noqa: B019, UP033 - as people write it
    def even(self, many: int, device: torch.device) -> Tensor:
        return places(many, device) % 2

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x) + self.shift(places(x.shape[1], x.device))
        if int(self.even(x.shape[1], x.device).sum()) < 0:
            return x
        return x + self.two(x)


class Takes(nn.Module):
    """Takes the next noise of its file's own, and begins again when it is through."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.one, self.two):
            x = x + layer(x) * TURN.noises[TURN.at]
            TURN.at += 1
        float(x.sum())  # not on meta tensors: that attempt ends here
        TURN.at = 0
        return x


def test_a_cache_holds_no_stand_ins() -> None:
    net = Cached()
    assert len(sg.find(net, torch.randn(2, 6, 4))) == 1
    assert type(places(6, CPU)) is Tensor
    assert not places(6, CPU).is_meta
    assert net(torch.randn(2, 6, 4)).shape == (2, 6, 4)


def test_a_cache_that_was_not_asked_anew_is_left_alone() -> None:
    net = Named()
    x = torch.randn(2, 4)
    net(x)
    before = labels()
    assert len(sg.find(net, x)) == 1
    assert labels() is before


def test_an_object_beside_the_model_is_as_it_was() -> None:
    net = Takes()
    assert len(sg.find(net, torch.randn(2, 4))) == 2
    assert TURN.at == 0
    assert len(sg.find(net, torch.randn(2, 4))) == 2
