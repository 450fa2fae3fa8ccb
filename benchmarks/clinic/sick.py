"""Nets with a known disease, each with its cured twin: the same net and task without the disease."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from clinic.cases import (
    Batches,
    Case,
    binary,
    entropy,
    images,
    masks,
    regression,
    rescaled,
    sentences,
    squares,
    tokens,
    vectors,
)
from clinic.nets import Bent, Graph, Highway, Plain, Residual, Scaled, Tower, Transformer, UNet

NONE: dict[str, Any] = {"disease": (), "cured": None}


def pair(case: Case, build: Callable[[], nn.Module] | None = None, **changes: Any) -> Case:
    """The case with its twin: another net, or the same net trained otherwise."""
    twin = replace(case, name=f"{case.name}, cured", **{**NONE, **({"build": build} if build else {}), **changes})
    return replace(case, cured=twin)


def noise_of(batches: Batches, classes: int) -> Batches:
    """The same inputs with labels that have nothing to do with them."""

    def at(step: int) -> Any:
        x, y = batches(step)
        return x, torch.randint(classes, y.shape, generator=torch.Generator().manual_seed(9000 + step))

    return at


def zeroed(model: nn.Module) -> nn.Module:
    """Branches of our residual nets that start at zero."""
    for block in model.blocks:  # type: ignore[union-attr]
        nn.init.zeros_(block.down.weight)
        nn.init.zeros_(block.down.bias)
    return model


def left_out(model: nn.Module, *parts: str) -> nn.Module:
    """Keeps parts from the optimizer, as a parameter list that was put together wrongly does."""
    for name, p in model.named_parameters():
        p.left_out = name.startswith(parts)  # type: ignore[attr-defined]
    return model


def dead(depth: int) -> nn.Module:
    """Biases that keep every unit of a layer below zero."""
    model = rescaled(Plain(depth), 1.0)
    nn.init.constant_(model.layers[depth // 2].bias, -100.0)  # type: ignore[union-attr, arg-type]
    return model


def half(model: nn.Module) -> nn.Module:
    """All of it in bfloat16, given and giving float32."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model.bfloat16()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # Of the weights' dtype, so that a cure may change it.
            return self.net(x.to(next(self.net.parameters()).dtype)).float()

    return Half()


def far(width: int = 16) -> Batches:
    """Targets from 50 to 100."""
    near = regression(width)
    return lambda step: (near(step)[0], 75 + 10 * near(step)[1])


def near(width: int = 16) -> Batches:
    """The same targets, scaled to the range of a sigmoid."""
    plain = regression(width)
    return lambda step: (plain(step)[0], torch.sigmoid(plain(step)[1]))


def rare(share: float = 0.1) -> Batches:
    """Labels of which one in ten is 1, whatever the input is."""

    def at(step: int) -> Any:
        x, _ = vectors(2)(step)
        g = torch.Generator().manual_seed(9000 + step)
        return x, (torch.rand(len(x[0]), generator=g) < share).long()

    return at


def nodes(step: int) -> Any:
    """One graph whose nodes are classified, the same at every step."""
    g = torch.Generator().manual_seed(5)
    y = torch.randint(4, (60,), generator=g)
    hot = nn.functional.one_hot(y, 4).float() @ torch.randn(4, 16, generator=g)
    return (hot + torch.randn(60, 16, generator=g),), y


def copying(step: int) -> Any:
    """Gives back its input."""
    (x,), _ = masks()(step)
    return (x,), x


def apart(out: Any, y: torch.Tensor) -> torch.Tensor:
    """A loss of the class picked, through which no gradient goes."""
    return out.sum() * 0 + (out.argmax(-1) != y).float().mean()


def with_logarithm(out: Any, y: torch.Tensor) -> torch.Tensor:
    """Probabilities whose logarithm is taken, zeros included."""
    picked = out.softmax(-1).gather(1, y[:, None])
    return -torch.where(picked > picked.median(), picked, picked * 0).log().mean()


V, I, T, S = vectors(), images(), tokens(), sentences()  # noqa: E741
sgd: dict[str, Any] = {"optimizer": "sgd", "rate": 0.01}
VANISH, EXPLODE, LOSS = ("SG001", "SG003"), ("SG002",), ("SG012",)

SICK: tuple[Case, ...] = (
    pair(
        Case("sigmoid-24", lambda: Plain(24, torch.sigmoid), V, entropy, disease=VANISH, fast=True, **sgd),
        lambda: Residual(12),
    ),
    pair(
        Case("sigmoid-12", lambda: Plain(12, torch.sigmoid), V, entropy, disease=VANISH, **sgd),
        lambda: rescaled(Plain(6), 1.0),
    ),
    pair(
        Case("relu-24, init .5", lambda: rescaled(Plain(24), 0.5), V, entropy, disease=VANISH, **sgd),
        lambda: rescaled(Plain(6), 1.0),
    ),
    pair(
        Case("tanh-30, init .4", lambda: rescaled(Plain(30, torch.tanh), 0.4), V, entropy, disease=VANISH, **sgd),
        lambda: Residual(12),
    ),
    pair(
        Case(
            "relu-24, init 1.8",
            lambda: rescaled(Plain(24), 1.8),
            V,
            entropy,
            disease=EXPLODE + LOSS + ("SG010",),
            **sgd,
        ),
        lambda: rescaled(Plain(6), 1.0),
    ),
    pair(
        Case(
            "relu-40, init 1.5",
            lambda: rescaled(Plain(40), 1.5),
            V,
            entropy,
            rate=1e-8,
            optimizer="sgd",
            disease=EXPLODE,
            fast=True,
        ),
        lambda: Residual(12),
        rate=0.01,
    ),
    pair(Case("relu-60 without skips", lambda: Plain(60), V, entropy, disease=("SG004",), **sgd), lambda: Residual(12)),
    pair(
        Case(
            "graph-24 without skips",
            lambda: Graph(24, plain=True),
            nodes,
            entropy,
            rate=1e-2,
            disease=("SG001", "SG004"),
        ),
        lambda: Graph(16),
    ),
    pair(
        Case(
            "residual-24 without norm, init 1.4",
            lambda: rescaled(Residual(24, norm=False), 1.2),
            V,
            entropy,
            rate=1e-9,
            optimizer="sgd",
            disease=("SG009",),
        ),
        lambda: zeroed(Residual(24, norm=False)),
        rate=0.01,
    ),
    pair(
        Case(
            "tower, scale 1",
            lambda: rescaled(Tower(8, 1.0), 1.0),
            masks(32, channels=3),
            squares,
            disease=("SG009",),
            rate=1e-3,
            optimizer="sgd",
        ),
        lambda: rescaled(Tower(8, 0.2), 1.0),
        rate=1e-3,
        optimizer="adam",
        loss=squares,
    ),
    pair(
        Case(
            "pure bfloat16",
            lambda: half(Residual(4)),
            V,
            entropy,
            rate=1e-3,
            optimizer="sgd",
            disease=("SG003",),
            fast=True,
        ),
        lambda: Residual(4),
        rate=0.01,
    ),
    pair(Case("rate of nothing", lambda: Residual(4), V, entropy, rate=1e-12, disease=("SG003", "SG012")), rate=1e-3),
    pair(
        Case(
            "layers left out of the optimizer",
            lambda: left_out(Residual(6), "blocks.2", "blocks.3"),
            V,
            entropy,
            disease=("SG003",),
        ),
        lambda: Residual(6),
    ),
    pair(
        Case(
            "LayerScale frozen at 1e-6", lambda: Scaled(8, 1e-6, frozen=True), V, entropy, disease=("SG005",), fast=True
        ),
        lambda: Scaled(8, 1e-6),
    ),
    pair(
        Case("branches times 1e-4", lambda: Residual(8, scale=1e-4), V, entropy, disease=("SG005",)),
        lambda: Residual(8),
    ),
    pair(
        Case("highway, gates shut", lambda: Highway(8, -12.0), V, entropy, disease=("SG005",)), lambda: Highway(8, -1.0)
    ),
    pair(
        Case(
            "branches times 30, at a large rate",
            lambda: Residual(8, scale=30.0, norm=False),
            V,
            entropy,
            rate=0.05,
            optimizer="sgd",
            disease=("SG006", "SG009", "SG010", "SG012"),
        ),
        lambda: Residual(8),
        rate=0.01,
    ),
    pair(
        Case(
            "Post-LN-12, no warm-up",
            lambda: Transformer(12, post=True),
            T,
            entropy,
            rate=2e-2,
            steps=60,
            disease=("SG012", "SG007", "SG001"),
        ),
        lambda: Transformer(12),
        rate=2e-3,
    ),
    pair(
        Case("Post-LN-6, Adam at .05", lambda: Transformer(6, post=True), T, entropy, rate=5e-2, disease=LOSS),
        lambda: Transformer(6),
        rate=2e-3,
    ),
    pair(
        Case(
            "shortcuts times .4",
            lambda: Residual(16, keep=0.4, scale=0.01, norm=False),
            V,
            entropy,
            disease=("SG007", "SG001"),
            **sgd,
        ),
        lambda: Residual(16),
    ),
    pair(
        Case("logarithm of zero", lambda: Residual(4), V, with_logarithm, disease=("SG010",), fast=True), loss=entropy
    ),
    pair(
        Case(
            "rate of 1e30", lambda: Residual(4, norm=False), V, entropy, rate=1e30, optimizer="sgd", disease=("SG010",)
        ),
        rate=0.01,
    ),
    pair(
        Case(
            "rate raised in the middle, SGD",
            lambda: Residual(6),
            V,
            entropy,
            optimizer="sgd",
            rate=0.01,
            steps=60,
            changed=(40, 3.0),
            disease=("SG012", "SG010"),
        ),
        changed=None,
    ),
    pair(
        Case(
            "rate raised in the middle, Adam",
            lambda: Residual(6),
            V,
            entropy,
            steps=60,
            changed=(40, 1.0),
            disease=LOSS,
            fast=True,
        ),
        changed=None,
    ),
    pair(
        Case(
            "sigmoid over targets of 75",
            lambda: Bent(Residual(4, 16, 1), torch.sigmoid),
            far(),
            squares,
            rate=3e-2,
            steps=60,
            disease=LOSS,
            fast=True,
        ),
        batches=near(),
        rate=1e-3,
    ),
    pair(
        Case(
            "tanh over targets of 75",
            lambda: Bent(Residual(4, 16, 1), torch.tanh),
            far(),
            squares,
            rate=3e-2,
            steps=60,
            disease=LOSS,
        ),
        batches=regression(),
        rate=1e-3,
    ),
    pair(
        Case(
            "output clamped below its targets",
            lambda: Bent(Residual(4, 16, 1), partial(torch.clamp, max=1.0)),
            far(),
            squares,
            rate=3e-2,
            disease=LOSS,
        ),
        lambda: Residual(4, 16, 1),
        batches=regression(),
        rate=1e-3,
    ),
    pair(Case("dead units", lambda: dead(8), V, entropy, disease=LOSS, **sgd), lambda: rescaled(Plain(8), 1.0)),
    pair(Case("labels of noise", lambda: Residual(4), noise_of(V, 4), entropy, steps=60, disease=LOSS), batches=V),
    pair(
        Case("labels of noise, tokens", lambda: Transformer(3), noise_of(T, 64), entropy, steps=40, disease=LOSS),
        batches=T,
        rate=3e-3,
    ),
    pair(
        Case("a loss no gradient goes through", lambda: Residual(4), V, apart, disease=("SG003", "SG012"), steps=30),
        loss=entropy,
    ),
    pair(
        Case(
            "the prior of rare labels, known",
            lambda: Residual(4),
            rare(),
            entropy,
            steps=80,
            disease=LOSS,
            chance=0.325,
        ),
        batches=vectors(2),
        chance=math.log(2),
    ),
    pair(
        Case("a wrong tensor passed on", lambda: Residual(6, cut=True), V, entropy, disease=("SG013",), fast=True),
        lambda: Residual(6),
    ),
    pair(Case("a detached bottleneck", lambda: UNet(cut=True), masks(), binary, disease=("SG013",)), lambda: UNet()),
    pair(
        Case("decay that eats the weights", lambda: Residual(4), V, entropy, rate=1.0, optimizer="adamw", disease=LOSS),
        rate=1e-3,
    ),
)
