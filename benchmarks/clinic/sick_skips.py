"""Sick nets whose skips or branches are their trouble (SG005, SG006, SG007, SG013)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from clinic.cases import Case, binary, entropy, images, masks, rescaled, tokens, vectors
from clinic.healthy import adapted
from clinic.nets import Residual, Scaled, Transformer, UNet
from clinic.nets_sick import (
    Checkpointed,
    Convolutions,
    ConvResidual,
    PostNorm,
    Routed,
    Severed,
    Shortcuts,
    Spare,
    Times,
    Unrecorded,
)
from clinic.sick import left_out, pair

V, I16, T = vectors(), images(size=16, noise=0.5), tokens()
sgd: dict[str, Any] = {"optimizer": "sgd", "rate": 0.01}


def shut_adapters() -> nn.Module:
    """LoRA whose second factors are zero and frozen."""
    net = adapted()
    for name, p in net.named_parameters():
        if ".up." in name:
            p.requires_grad_(False)
    return net


def weighted(std: float) -> nn.Module:
    """A linear layer as a shortcut."""
    layer = nn.Linear(64, 64, bias=False)
    nn.init.normal_(layer.weight, std=std)
    return layer


def quantised(x: torch.Tensor) -> torch.Tensor:
    """The number of the nearest of eight levels, as a vector quantiser picks it."""
    levels = torch.linspace(-2, 2, 8)
    return levels[(x[..., None] - levels).abs().argmin(-1)]


SICK_SKIPS: tuple[Case, ...] = (
    pair(
        Case(
            "ReZero, its scale kept from the optimizer",
            lambda: left_out(Scaled(8, 0.0), "gamma"),
            V,
            entropy,
            seed=1,
            disease=("SG005", "SG003"),
            why="scales of zero that nobody moves: no branch ever adds anything, and gets no gradient either",
        ),
        lambda: Scaled(8, 0.0),
    ),
    pair(
        Case(
            "convolutions, branches times 1e-5",
            lambda: ConvResidual(6, scale=1e-5),
            I16,
            entropy,
            optimizer="rmsprop",
            rate=3e-3,
            disease=("SG005",),
            why="a constant factor takes the branches out of the net",
        ),
        lambda: ConvResidual(6),
    ),
    pair(
        Case(
            "adapters whose second factor is frozen at zero",
            shut_adapters,
            T,
            entropy,
            rate=1e-2,
            disease=("SG005", "SG003"),
            why="nothing passes a frozen zero: the adapters add nothing, and their first factor has a gradient of zero",
            fast=True,
        ),
        adapted,
    ),
    pair(
        Case(
            "branches all dropped",
            lambda: ConvResidual(6, drop=1.0),
            I16,
            entropy,
            optimizer="adamw",
            rate=3e-3,
            disease=("SG005", "SG003"),
            why="a keep rate that was given where a drop rate belongs: every branch is zero while training",
        ),
        lambda: ConvResidual(6, drop=0.1),
    ),
    pair(
        Case(
            "a router that picks one expert only",
            lambda: Routed(3, bias=50.0),
            V,
            entropy,
            disease=("SG003", "SG013"),
            why="three of four experts a block are never picked, their gradient is exactly zero: a collapsed router",
        ),
        lambda: Routed(3),
    ),
    pair(
        Case(
            "a weight on each of 16 shortcuts",
            lambda: Shortcuts(16, lambda: weighted(0.04)),
            V,
            entropy,
            disease=("SG007", "SG001", "SG012"),
            why="a weight that no change of shape asks for, of gain .3, sixteen times over",
            **sgd,
        ),
        lambda: Shortcuts(16, nn.Identity),
    ),
    pair(
        Case(
            "shortcuts times 3",
            lambda: Shortcuts(12, lambda: Times(3.0)),
            V,
            entropy,
            disease=("SG007", "SG002", "SG009", "SG010", "SG012"),
            why="three to the twelfth, forward and backward",
            optimizer="sgd",
            rate=1e-4,
            seed=2,
        ),
        lambda: Shortcuts(12, nn.Identity),
        rate=0.01,
    ),
    pair(
        Case(
            "dropout of .8 on the shortcuts",
            lambda: Shortcuts(12, lambda: nn.Dropout(0.8)),
            V,
            entropy,
            disease=("SG007", "SG002", "SG010", "SG012"),
            why="dropout on a shortcut (He et al. 2016): after twelve hardly a unit is whole, the others are huge",
            **sgd,
        ),
        lambda: Shortcuts(12, nn.Identity),
    ),
    pair(
        Case(
            "Post-LN-18, RMSprop",
            lambda: Transformer(18, post=True),
            T,
            entropy,
            optimizer="rmsprop",
            rate=1e-2,
            steps=40,
            disease=("SG012", "SG007", "SG001", "SG006"),
            why="Post-LN without warm-up, deep, at a rate its first steps cannot bear",
        ),
        lambda: Transformer(6),
        rate=1e-3,
    ),
    pair(
        Case(
            "drowned: no norm, gain 4, AdamW",
            lambda: rescaled(Residual(12, norm=False, scale=4.0), 1.0),
            V,
            entropy,
            optimizer="adamw",
            rate=3e-2,
            seed=3,
            disease=("SG006", "SG009", "SG010", "SG012"),
            why="branches of eight times their input's size, twelve times over",
        ),
        lambda: Residual(12),
        rate=1e-3,
    ),
    pair(
        Case(
            "drowned: Post-LN times 30, sixteen blocks",
            lambda: PostNorm(16, 30.0, torch.tanh),
            V,
            entropy,
            optimizer="adam",
            rate=3e-2,
            seed=4,
            disease=("SG006", "SG007", "SG012"),
            why="each branch brings thirty times what its skip brings, so that there is no skip",
        ),
        lambda: PostNorm(8, 1.0, pre=True),
        rate=1e-3,
    ),
    pair(
        Case(
            "a head behind a detach",
            lambda: Severed(Residual(6, out=64), nn.Linear(64, 4), torch.detach),
            V,
            entropy,
            rate=1e-2,
            disease=("SG013",),
            why="the body runs and never gets a gradient",
            fast=True,
        ),
        lambda: Severed(Residual(6, out=64), nn.Linear(64, 4), nn.Identity()),
        rate=1e-3,
    ),
    pair(
        Case(
            "a quantiser without straight-through",
            lambda: Severed(Residual(4, out=64), Residual(2), quantised),
            V,
            entropy,
            disease=("SG013",),
            why="an argmin lets no gradient through, so that the encoder stays as it is",
        ),
        lambda: Severed(Residual(4, out=64), Residual(2), lambda x: x + (quantised(x) - x).detach()),
    ),
    pair(
        Case(
            "a stem under no_grad",
            Unrecorded,
            V,
            entropy,
            optimizer="rmsprop",
            disease=("SG013",),
            why="its weights ask for a gradient and none is recorded",
        ),
        lambda: Unrecorded(without=False),
    ),
    pair(
        Case(
            "a reentrant checkpoint on the input",
            lambda: Checkpointed(reentrant=True),
            V,
            entropy,
            optimizer="adamw",
            disease=("SG013",),
            why="none of its inputs asks for a gradient, so that its weights get none",
        ),
        lambda: Checkpointed(reentrant=False),
    ),
    pair(
        Case(
            "a tower whose result is not used",
            Spare,
            V,
            entropy,
            disease=("SG013",),
            why="the first tower's result is concatenated twice, the second's is dropped",
            **sgd,
        ),
        lambda: Spare(mended=True),
        rate=0.05,
        steps=60,
    ),
    pair(
        Case(
            "a U-Net whose inner levels are detached, SGD",
            lambda: UNet(3, cut=True),
            masks(32),
            binary,
            optimizer="sgd",
            rate=0.1,
            seed=5,
            disease=("SG013",),
            why="the bottleneck runs and is cut off",
        ),
        lambda: UNet(3),
    ),
    pair(
        Case(
            "convolutions-8 behind a clamp",
            lambda: Severed(Convolutions(8), nn.Linear(10, 10), lambda x: x.clamp(5, 6)),
            I16,
            entropy,
            disease=("SG003", "SG012", "SG001"),
            why="a clamp that all values lie below: its gradient is exactly zero",
        ),
        lambda: Severed(ConvResidual(4), nn.Linear(10, 10), lambda x: x.clamp(-50, 60)),
        rate=3e-3,
    ),
)
