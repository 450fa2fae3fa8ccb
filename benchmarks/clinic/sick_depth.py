"""Sick nets whose depth is their trouble: gradients that vanish or explode (SG001, SG002, SG004, SG009)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F

from clinic.cases import Case, entropy, images, masks, rescaled, sentences, squares, tokens, vectors
from clinic.nets import Graph, Plain, Residual, Tower, Transformer, UNet
from clinic.nets_sick import Convolutions, ConvResidual, PostNorm, Stack, Summing
from clinic.sick import nodes, pair, zeroed

V, I16, T, S = vectors(), images(size=16, noise=0.5), tokens(), sentences()
sgd: dict[str, Any] = {"optimizer": "sgd", "rate": 0.01}


class Skipless(Transformer):
    """The parts of a transformer in a row, without their skips."""

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids)
        for part, norm in zip(self.parts, self.norms, strict=True):
            x = part(norm(x))
        return self.head(self.last(x))


def starved(levels: int, gain: float) -> nn.Module:
    """A U-Net without norms whose inner levels start far too small."""
    net = UNet(levels, norm=False)
    inner: list[Any] = [*net.down[1:], *net.up[1:], *net.merge[1:]]  # type: ignore[misc]
    for part in inner:
        for m in part.modules():
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
                m.weight.data *= gain
                assert m.bias is not None
                nn.init.zeros_(m.bias)
    return net


SICK_DEPTH: tuple[Case, ...] = (
    pair(
        Case(
            "gelu-30, default init",
            lambda: Plain(30, F.gelu),
            V,
            entropy,
            optimizer="adamw",
            rate=1e-4,
            seed=1,
            disease=("SG001", "SG003", "SG004", "SG012"),
            why="torch's default init lets a signal fade by about 3 a layer, thirty times over",
        ),
        lambda: Residual(12),
        rate=1e-3,
    ),
    pair(
        Case(
            "hardsigmoid-16, RMSprop",
            lambda: Plain(16, F.hardsigmoid),
            V,
            entropy,
            optimizer="rmsprop",
            rate=1e-3,
            disease=("SG001", "SG003", "SG012"),
            why="a slope of 1/6 sixteen times; RMSprop turns what is left into steps of full size in no good direction",
        ),
        lambda: rescaled(Plain(4), 1.0),
    ),
    pair(
        Case(
            "softsign-40, init .6, Adam",
            lambda: rescaled(Plain(40, F.softsign), 0.6),
            V,
            entropy,
            rate=1e-5,
            seed=2,
            disease=("SG001", "SG003", "SG004", "SG012"),
            why="the init is too small, forty times over",
        ),
        lambda: Residual(12),
        rate=1e-3,
    ),
    pair(
        Case(
            "convolutions-20, init .5",
            lambda: rescaled(Convolutions(20), 0.5),
            I16,
            entropy,
            disease=("SG001", "SG003", "SG004", "SG012"),
            why="He's init halved twenty times over",
            fast=True,
            **sgd,
        ),
        lambda: ConvResidual(6),
        rate=0.05,
    ),
    pair(
        Case(
            "convolutions-20, init 1.8",
            lambda: rescaled(Convolutions(20), 1.8),
            I16,
            entropy,
            optimizer="sgd",
            rate=1e-9,
            disease=("SG002", "SG012", "SG010"),
            why="He's init times 1.8 twenty times over: 1e5 in the forward, and the same in the backward",
        ),
        lambda: ConvResidual(6),
        rate=0.05,
    ),
    pair(
        Case(
            "silu-30, init 2.2, RMSprop",
            lambda: rescaled(Plain(30, F.silu), 2.2),
            V,
            entropy,
            optimizer="rmsprop",
            rate=1e-5,
            seed=3,
            disease=("SG002", "SG012", "SG010"),
            why="the init is too large thirty times over",
        ),
        lambda: Residual(12),
        rate=1e-3,
    ),
    pair(
        Case(
            "batch norm-56 without skips",
            lambda: Convolutions(56, norm=True),
            I16,
            entropy,
            optimizer="sgd",
            rate=0.05,
            seed=4,
            disease=("SG004", "SG002", "SG012"),
            why="batch norm keeps the forward in shape, and the gradient grows by 1.2 a layer without skips",
        ),
        lambda: ConvResidual(8),
    ),
    pair(
        Case(
            "transformer-12 without skips",
            lambda: Skipless(12),
            T,
            entropy,
            rate=3e-3,
            disease=("SG001", "SG004", "SG012"),
            why="attention without skips makes all positions alike (rank collapse), and nothing bridges 48 layers",
        ),
        lambda: Transformer(6),
    ),
    pair(
        Case(
            "LSTMs, 16 on each other",
            lambda: Stack("LSTM", 16),
            S,
            entropy,
            rate=3e-3,
            disease=("SG001", "SG004", "SG012"),
            why="each LSTM's gates halve what comes through at its start, and nothing bridges sixteen of them",
        ),
        lambda: Stack("LSTM", 3, skips=True),
        rate=1e-2,
    ),
    pair(
        Case(
            "an RNN of 6 layers, tanh",
            lambda: rescaled_rnn(6, 0.3),
            S,
            entropy,
            optimizer="sgd",
            rate=0.01,
            disease=("SG001", "SG012"),
            why="input weights of .3 of their size: the first layer gets next to nothing",
        ),
        lambda: Stack("GRU", 1),
        optimizer="adam",
        rate=1e-2,
        steps=60,
    ),
    pair(
        Case(
            "graph-16 without skips, SGD",
            lambda: Graph(16, plain=True),
            nodes,
            entropy,
            seed=5,
            disease=("SG001", "SG003", "SG004", "SG012"),
            why="plain graph convolutions smooth all nodes to one and fade",
            **sgd,
        ),
        lambda: Graph(16),
        optimizer="adam",
        steps=60,
    ),
    pair(
        Case(
            "convolutions with skips, no norm, init 1.5",
            lambda: rescaled(ConvResidual(20, norm=False), 1.5),
            I16,
            entropy,
            optimizer="sgd",
            rate=1e-8,
            disease=("SG009", "SG010", "SG012"),
            why="no norm before the branches, each of which answers a larger x with a larger F(x)",
        ),
        lambda: ConvResidual(8),
        rate=0.05,
    ),
    pair(
        Case(
            "graph that sums its neighbours, 12 blocks",
            lambda: Summing(12),
            nodes,
            entropy,
            optimizer="sgd",
            rate=1e-3,
            disease=("SG009", "SG002", "SG010", "SG012"),
            why="sums over a dozen neighbours grow x by a factor at each of twelve adds",
            fast=True,
        ),
        lambda: Summing(4, mean=True),
        rate=0.05,
    ),
    pair(
        Case(
            "deep residual MLP, init 1.5, Adam",
            lambda: rescaled(Residual(30, norm=False), 1.5),
            V,
            entropy,
            rate=1e-6,
            seed=6,
            disease=("SG009", "SG002", "SG001", "SG012"),
            why="no norm before thirty branches at 1.5 times He's init",
        ),
        lambda: zeroed(Residual(30, norm=False)),
        rate=1e-3,
    ),
    pair(
        Case(
            "tower, scale .8, deep",
            lambda: rescaled(Tower(7, 0.8), 1.2),
            masks(16, channels=3),
            squares,
            optimizer="sgd",
            rate=1e-7,
            disease=("SG009", "SG002", "SG010", "SG012"),
            why="residual in residual without norms, scale .8 where .2 is what its authors take",
        ),
        lambda: rescaled(Tower(4, 0.2), 1.0),
        optimizer="adam",
        rate=1e-3,
    ),
    pair(
        Case(
            "drowned: Post-LN of sigmoids times 20",
            lambda: PostNorm(16, 20.0, F.sigmoid),
            V,
            entropy,
            rate=1e-3,
            optimizer="sgd",
            disease=("SG006", "SG007", "SG001", "SG012"),
            why="what each skip brings is a twentieth of what its branch does, and a norm takes the rest of it away",
        ),
        lambda: PostNorm(16, 1.0, pre=True),
        rate=0.01,
    ),
    pair(
        Case(
            "starved bottleneck, SGD",
            lambda: starved(4, 0.03),
            masks(),
            squares,
            optimizer="sgd",
            rate=0.05,
            disease=("SG001", "SG005", "SG008"),
            why="the inner levels start at .03 of their size without a norm: the outer skip does all the work",
        ),
        lambda: UNet(3),
    ),
    pair(
        Case(
            "starved bottleneck, three levels",
            lambda: starved(3, 0.01),
            masks(32),
            squares,
            optimizer="sgd",
            rate=0.02,
            seed=7,
            disease=("SG001", "SG005", "SG008"),
            why="the inner levels start at a hundredth of their size without a norm",
        ),
        lambda: UNet(3),
        rate=0.05,
    ),
)


def rescaled_rnn(depth: int, gain: float) -> nn.Module:
    """Recurrent tanh layers whose input weights are small."""
    net = Stack("RNN", depth)
    for name, p in net.named_parameters():
        if "weight_ih" in name:
            p.data *= gain
    return net
