"""Sick trainings: rates, dtypes, losses, labels and loops that are wrong (SG003, SG010, SG012)."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from clinic.cases import Batches, Case, binary, entropy, images, masks, regression, sentences, squares, tokens, vectors
from clinic.nets import Bent, Residual, Transformer, UNet
from clinic.nets_sick import Convolutions, ConvResidual, Masked, Stack
from clinic.sick import half, noise_of, pair

V, I16, T, S, R = vectors(), images(size=16, noise=0.5), tokens(), sentences(), regression()
LOSS = ("SG012",)


def float16(model: nn.Module) -> nn.Module:
    """All of it in float16, given and giving float32."""

    class Sixteen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model.half()

        def forward(self, x: Tensor) -> Tensor:
            # Of the weights' dtype, so that a cure may change it.
            return self.net(x.to(next(self.net.parameters()).dtype)).float()

    return Sixteen()


def whole_bfloat16(model: nn.Module) -> nn.Module:
    """Token nets in bfloat16, whose output is float32."""
    return Bent(model.bfloat16(), torch.Tensor.float)


def tiny(out: Any, y: Tensor) -> Tensor:
    """A loss averaged over far too much."""
    return entropy(out, y) * 1e-7


def scaled_inputs(batches: Batches, factor: float) -> Batches:
    """The inputs times a factor."""

    def at(step: int) -> Any:
        (x,), y = batches(step)
        return (x * factor,), y

    return at


def below_zero(width: int = 16) -> Batches:
    """Targets that all lie below zero."""
    plain = regression(width)
    return lambda step: (plain(step)[0], plain(step)[1].clamp(max=0) - 3)


def padded(step: int) -> Any:
    """Sentences of which, from step 10 on, one is nothing but padding."""
    (ids,), y = S(step)
    if step >= 10:
        ids = ids.clone()
        ids[0] = 0
    return (ids,), y


def stray_masks(share: float = 0.1) -> Batches:
    """Masks of blobs that have nothing to do with the image."""
    plain = masks(32)

    def at(step: int) -> Any:
        x, y = plain(step)
        g = torch.Generator().manual_seed(9000 + step)
        return x, (torch.rand(y.shape, generator=g) < share).float()

    return at


def distances(out: Tensor, y: Tensor) -> Tensor:
    """Pulls answers of one class together, by a root that has no slope at zero."""
    apart = (out[:, None] - out[None]).square().sum(-1).sqrt()
    return entropy(out, y) + 0.01 * (apart * (y[:, None] == y[None])).mean()


def distances_with_room(out: Tensor, y: Tensor) -> Tensor:
    """The same with a little under the root."""
    apart = ((out[:, None] - out[None]).square().sum(-1) + 1e-6).sqrt()
    return entropy(out, y) + 0.01 * (apart * (y[:, None] == y[None])).mean()


def empty_means(out: Tensor, y: Tensor, guarded: bool = False) -> Tensor:
    """The mean over each class of its losses; a batch without one of the classes divides zero by zero."""
    each = nn.functional.cross_entropy(out, y, reduction="none")
    means = [each[y == k].sum() / (y == k).sum().clamp(min=int(guarded)) for k in range(4)]
    return torch.stack(means).mean()


def few(batch: int) -> Batches:
    """Small batches of the same classes."""
    return vectors(batch=batch)


def likelihood(out: Tensor, y: Tensor) -> Tensor:
    """Gaussian likelihood with a logarithm of the variance that nothing bounds."""
    mean, log_variance = out.chunk(2, 1)
    return ((y - mean).square() * (-log_variance).exp() + log_variance).mean()


def likelihood_bounded(out: Tensor, y: Tensor) -> Tensor:
    """The same, bounded."""
    mean, log_variance = out.chunk(2, 1)
    log_variance = 3 * log_variance.tanh()
    return ((y - mean).square() * (-log_variance).exp() + log_variance).mean()


def of_a_copy(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of a model that was copied before the optimizer was made."""
    return list(copy.deepcopy(model).parameters())


def but_the_last_bias(model: nn.Module) -> nn.Module:
    """Everything frozen but the head's bias, by a loop that should have gone the other way round."""
    names = [n for n, _ in model.named_parameters()]
    for name, p in model.named_parameters():
        p.requires_grad_(name == names[-1])
    return model


SICK_TRAINING: tuple[Case, ...] = (
    pair(
        Case(
            "float16, a loss of 1e-7",
            lambda: float16(Residual(4)),
            V,
            tiny,
            optimizer="sgd",
            rate=0.01,
            disease=("SG003", "SG012"),
            why="gradients of 1e-9 are below the smallest number of float16",
            fast=True,
        ),
        lambda: Residual(4),
        loss=entropy,
    ),
    pair(
        Case(
            "bfloat16 transformer, AdamW at 1e-5",
            lambda: whole_bfloat16(Transformer(3)),
            T,
            entropy,
            optimizer="adamw",
            rate=1e-5,
            disease=("SG003", "SG012"),
            why="steps of 1e-5 against weights of .1 are rounded away at eight bits",
        ),
        lambda: Transformer(3),
        rate=3e-3,
    ),
    pair(
        Case(
            "a rate of 1e-7, SGD, images",
            lambda: ConvResidual(4),
            I16,
            entropy,
            optimizer="sgd",
            rate=1e-7,
            disease=("SG012", "SG003"),
            why="nothing moves in forty steps",
        ),
        rate=0.05,
    ),
    pair(
        Case(
            "a rate of 1e-8, AdamW, tokens",
            lambda: Transformer(3),
            T,
            entropy,
            optimizer="adamw",
            rate=1e-8,
            seed=1,
            disease=("SG012", "SG003"),
            why="steps of 1e-8 of weights of .1: a tenth of a millionth each",
        ),
        rate=3e-3,
    ),
    pair(
        Case(
            "the optimizer of another copy",
            lambda: Residual(4),
            V,
            entropy,
            parameters=of_a_copy,
            disease=("SG012", "SG003"),
            why="the optimizer steps over weights that the model does not have",
        ),
        parameters=None,
    ),
    pair(
        Case(
            "all frozen but the last bias",
            lambda: but_the_last_bias(Residual(4)),
            V,
            entropy,
            rate=1e-2,
            disease=("SG012", "SG013"),
            why="a bias cannot tell the classes apart: the loss stays at chance",
            fast=True,
        ),
        lambda: Residual(4),
        rate=1e-3,
    ),
    pair(
        Case(
            "softmax before cross-entropy",
            lambda: Bent(ConvResidual(4), partial(torch.softmax, dim=-1)),
            I16,
            entropy,
            optimizer="sgd",
            rate=0.01,
            disease=LOSS,
            why="cross-entropy takes a softmax of probabilities: ten near-equal numbers, and a gradient of a tenth",
        ),
        lambda: ConvResidual(4),
        rate=0.05,
    ),
    pair(
        Case(
            "softmax before cross-entropy, saturated",
            lambda: Bent(Residual(4), lambda z: torch.softmax(100 * z, -1)),
            V,
            entropy,
            optimizer="adam",
            rate=1e-5,
            seed=2,
            disease=LOSS,
            why="one-hot answers at the start, through which no gradient comes",
        ),
        lambda: Residual(4),
        rate=1e-3,
    ),
    pair(
        Case(
            "gradients that nobody clears, SGD",
            lambda: ConvResidual(4),
            I16,
            entropy,
            optimizer="sgd",
            rate=0.3,
            steps=60,
            keeps_gradient=True,
            disease=("SG012", "SG010"),
            why="the gradient is the sum of all before it: the steps grow and go on past every minimum",
        ),
        keeps_gradient=False,
        rate=0.05,
    ),
    pair(
        Case(
            "a rate of 30, SGD, convolutions with batch norm",
            lambda: Convolutions(6, norm=True),
            I16,
            entropy,
            optimizer="sgd",
            rate=30.0,
            seed=3,
            disease=("SG012", "SG010"),
            why="a step rewrites the head; batch norm keeps it finite",
        ),
        rate=0.05,
    ),
    pair(
        Case(
            "RMSprop at .3, GRU",
            lambda: Stack("GRU", 2),
            S,
            entropy,
            optimizer="rmsprop",
            rate=0.3,
            disease=("SG012", "SG010"),
            why="weights move by .3 a step: the gates are saturated after one",
        ),
        rate=1e-2,
        optimizer="adam",
        steps=60,
    ),
    pair(
        Case(
            "Adam at 1, U-Net",
            lambda: UNet(2),
            masks(32),
            binary,
            rate=1.0,
            seed=4,
            disease=("SG012", "SG010"),
            why="weights of .1 move by 1 a step",
        ),
        rate=3e-3,
    ),
    pair(
        Case(
            "inputs divided by 255 twice",
            lambda: Convolutions(4),
            scaled_inputs(I16, 1 / 255**2),
            entropy,
            optimizer="sgd",
            rate=0.01,
            disease=LOSS,
            why="without a norm the net sees nothing but its own biases: the loss stays at chance",
        ),
        lambda: ConvResidual(4),
        batches=I16,
        rate=0.05,
    ),
    pair(
        Case(
            "inputs of zero",
            lambda: Residual(4),
            scaled_inputs(V, 0.0),
            entropy,
            steps=50,
            disease=LOSS,
            why="a loader that returns empty arrays: what is left to learn is the prior of the classes",
        ),
        batches=V,
    ),
    pair(
        Case(
            "ReLU over targets below zero",
            lambda: Bent(Residual(3, 16, 1), torch.relu),
            below_zero(),
            squares,
            rate=3e-2,
            steps=60,
            disease=("SG012", "SG003"),
            why="the best a ReLU can say is zero, where its gradient is zero",
        ),
        lambda: Residual(3, 16, 1),
        rate=3e-3,
    ),
    pair(
        Case(
            "masks that have nothing to do with the image",
            lambda: UNet(2),
            stray_masks(),
            binary,
            rate=3e-3,
            steps=60,
            chance=0.325,
            disease=LOSS,
            why="one pixel in ten at random: the best answer is always the same, of loss .325",
        ),
        batches=masks(32),
        chance=math.log(2),
    ),
    pair(
        Case(
            "labels of noise, images, RMSprop",
            lambda: ConvResidual(4),
            noise_of(I16, 10),
            entropy,
            optimizer="rmsprop",
            rate=1e-3,
            steps=60,
            seed=5,
            disease=LOSS,
            why="labels that were shuffled apart from their images",
        ),
        batches=I16,
        rate=3e-3,
    ),
    pair(
        Case(
            "a root at zero",
            lambda: Residual(4),
            V,
            distances,
            optimizer="adamw",
            disease=("SG010",),
            why="the slope of a root at zero is infinite, and zero times infinity is NaN",
            fast=True,
        ),
        loss=distances_with_room,
    ),
    pair(
        Case(
            "a mean over nothing",
            lambda: Residual(4),
            few(6),
            empty_means,
            optimizer="sgd",
            rate=0.01,
            seed=6,
            disease=("SG010",),
            why="a batch of six lacks one of four classes every now and then: zero by zero",
        ),
        loss=partial(empty_means, guarded=True),
        steps=60,
        rate=0.02,
    ),
    pair(
        Case(
            "a row that is masked whole",
            Masked,
            padded,
            entropy,
            rate=3e-3,
            disease=("SG010",),
            why="the softmax of a row of minus infinity is NaN, from step 10 on",
        ),
        lambda: Masked(guarded=True),
        steps=60,
        rate=1e-2,
    ),
    pair(
        Case(
            "float16 overflows",
            lambda: float16(Residual(4, norm=False)),
            scaled_inputs(V, 3e5),
            entropy,
            optimizer="sgd",
            rate=1e-3,
            disease=("SG010",),
            why="inputs of 3e5 are beyond float16's 65504",
        ),
        lambda: Residual(4, norm=False),
        batches=V,
        rate=0.01,
    ),
    pair(
        Case(
            "a variance that nothing bounds",
            lambda: Residual(3, 16, 2),
            R,
            likelihood,
            optimizer="sgd",
            rate=3.0,
            disease=("SG010", "SG012"),
            why="exp of what a step of SGD has thrown far off",
        ),
        loss=likelihood_bounded,
        optimizer="adam",
        rate=3e-3,
        steps=60,
    ),
    pair(
        Case(
            "SGD at 20, transformer",
            lambda: Transformer(4),
            T,
            entropy,
            optimizer="sgd",
            rate=20.0,
            seed=7,
            disease=("SG012", "SG010"),
            why="SGD at 20 throws the embedding off at once",
        ),
        optimizer="adam",
        rate=3e-3,
    ),
    pair(
        Case(
            "bfloat16 convolutions, SGD at 1e-4",
            lambda: half(ConvResidual(4)),
            I16,
            entropy,
            optimizer="sgd",
            rate=1e-4,
            disease=("SG003", "SG012"),
            why="steps of 1e-5 of a weight are rounded away at eight bits",
        ),
        lambda: ConvResidual(4),
        rate=0.05,
    ),
)
