"""A2: the gradient of a convolution in a skip and of batch norm, by formula; γ/σ·dL/dy with frozen statistics only."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle, over
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import resolve_model
from skipgrad.probes.table import GradientTable, Residual, gradient_table
from skipgrad.probes.table.default import lived_in

BOUND = 1e-12
APART = 0.01
FORMULAS = ("convolution error", "skip error", "training batch norm error", "evaluation batch norm error")
NET, IMAGES = "skipgrad:resnet20", (64, 1, 16, 16)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def drawn_layers(seed: int) -> dict[str, nn.Module]:
    """In 1, 2 and 3 dimensions: convolutions and skips around convolutions as drawn, batch norm with and without γ."""
    draw = random.Random(seed)
    layers: dict[str, nn.Module] = {}
    with kept_random(torch.device("cpu")):
        seed_all(seed)
        for i, conv in enumerate(CONVOLUTIONS):
            for n in range(3):
                groups, kernel = draw.choice((1, 2)), draw.randint(1, 4)
                layers[f"convolution {i + 1}d, {n}"] = conv(
                    groups * draw.randint(1, 3),
                    groups * draw.randint(1, 3),
                    kernel,
                    stride=draw.randint(1, 3),
                    padding=draw.randint(0, kernel - 1),
                    dilation=draw.randint(1, 2),
                    groups=groups,
                    padding_mode=draw.choice(("zeros", "zeros", "reflect", "replicate", "circular")),
                )
                dilation = draw.randint(1, 2)
                layers[f"skip {i + 1}d, {n}"] = Residual(
                    conv(4, 4, 3, padding=dilation, dilation=dilation, groups=draw.choice((1, 2, 4)))
                )
            for affine in (True, False):
                norm = NORMS[i](4, affine=affine)
                lived_in(norm)
                layers[f"batch norm {i + 1}d, {'with' if affine else 'without'} γ"] = norm
    return layers


class Frozen(nn.Module):
    """Batch norm with the forward of training and the backward of the popular formula: μ and σ are constants."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        dims = [i for i in range(x.dim()) if i != 1]
        shape = (-1, *(1,) * (x.dim() - 2))
        mean = x.detach().mean(dims).reshape(shape)
        variance = x.detach().var(dims, unbiased=False).reshape(shape)
        hat = (x - mean) / torch.sqrt(variance + self.norm.eps)
        return hat * self.norm.weight.reshape(shape) + self.norm.bias.reshape(shape)


def frozen(model: nn.Module) -> nn.Module:
    """A copy of a model in which every batch norm goes backward by the popular formula."""
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if isinstance(module, NORMS):
            twin.set_submodule(name, Frozen(module))
    return twin


def in_a_net(seed: int) -> dict[str, float]:
    """How wrong the popular formula is in a net in training: at each batch norm by itself, and after all of them."""
    with kept_random(torch.device("cpu")):
        seed_all(seed)
        model = resolve_model(NET, {"norm": "batch", "width": 8}).build().double().train()
        x, y = torch.randn(IMAGES, dtype=torch.float64), torch.randint(10, IMAGES[:1])
    popular = frozen(model)
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watched(name: str, norm: nn.Module) -> None:
        def forward(module: nn.Module, args: Any, out: Tensor) -> None:
            out.register_hook(lambda grad: seen.__setitem__(name, (args[0].detach(), grad)))

        norm.register_forward_hook(forward)

    norms = {name: module for name, module in model.named_modules() if isinstance(module, NORMS)}
    alone = {name: copy.deepcopy(norm) for name, norm in norms.items()}
    for name, norm in norms.items():
        watched(name, norm)
    grads = []
    for net in (model, popular):
        F.cross_entropy(net(x), y).backward()
        grads.append(next(iter(net.parameters())).grad)
    true, wrong = grads
    assert true is not None
    assert wrong is not None
    table = gradient_table(
        alone, {name: given for name, (given, _) in seen.items()}, {name: grad for name, (_, grad) in seen.items()}
    )
    errors = [row.popular_error for row in table if row.mode == "training" and row.popular_error is not None]
    return {
        "γ/σ error at a norm of ResNet-20, median": median(errors),
        "γ/σ error at its first layer": float((wrong - true).norm() / true.norm()),
    }


def errors_of(table: GradientTable) -> Values:
    """The largest error of each formula over the layers of a table."""
    norms = [row for row in table if row.kind == "batch norm"]
    groups = (
        [row for row in table if row.kind == "convolution"],
        [row for row in table if row.kind == "skip around a layer"],
        [row for row in norms if row.mode == "training"],
        [row for row in norms if row.mode == "evaluation"],
    )
    errors = {name: max(row.error for row in rows) for name, rows in zip(FORMULAS, groups, strict=True)}
    training = [row.popular_error or 0.0 for row in norms if row.mode == "training"]
    evaluation = [row.popular_error or 0.0 for row in norms if row.mode == "evaluation"]
    return {
        "layers": len({row.layer for row in table}),
        **errors,
        "γ/σ error in evaluation": max(evaluation),
        "least γ/σ error in training": min(training),
    }


def judge(values: Values) -> bool:
    """The formulas are right everywhere; the popular one in evaluation mode, and nowhere else."""
    right = max(values[name] for name in (*FORMULAS, "γ/σ error in evaluation")) <= BOUND
    return right and values["least γ/σ error in training"] >= APART


def one_seed(setting: Setting) -> Values:
    """The gradient table of layers drawn from the seed, and γ/σ·dL/dy in a net. There is no quicker version."""
    setting.say("layers")
    table = gradient_table(drawn_layers(setting.seed), seed=setting.seed)
    setting.say("a net")
    return {**errors_of(table), **in_a_net(setting.seed)}


def sentence(figures: Sequence[Figure]) -> str:
    """How far off the formulas are, and the popular one."""
    worst = max(v for f in figures for k, v in f.values.items() if k in FORMULAS)
    return (
        f"The formulas agree with autograd to {number(worst)}; the popular γ/σ·dL/dy of batch norm to "
        f"{number(max(over(figures, 'γ/σ error in evaluation')))} with frozen statistics, and in training it is off by "
        f"{number(100 * min(over(figures, 'least γ/σ error in training')))} % at least, by "
        f"{number(100 * middle(figures, 'γ/σ error at its first layer'))} % at the first layer of ResNet-20."
    )


CLAIM = Claim(
    id="A2",
    title="The gradients of a table of layers",
    statement="A convolution in a skip passes dL/dy + Wᵀ ∗ dL/dF; batch norm passes γ/σ·dL/dy with frozen statistics "
    "only, and in training two more terms, through the batch's mean and variance.",
    anchor="algebra (Ioffe & Szegedy 2015, section 3)",
    criterion=f"formulas within {BOUND:g} (relative) of torch.autograd.grad in float64, for every layer in both modes; "
    f"γ/σ·dL/dy within {BOUND:g} in evaluation mode and off by {APART:g} or more in training mode, at every batch norm",
    refutes="a formula further off than float64 rounds, or a training batch norm at which γ/σ is right",
    setting="nine convolutions, nine skips around one and six batch norms a seed, in 1, 2 and 3 dimensions, float64; "
    f"ResNet-20 of width 8 at its start, {IMAGES[0]} random images of {IMAGES[2]}×{IMAGES[3]}, random labels",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        (*FORMULAS, "γ/σ error in evaluation", "least γ/σ error in training", "γ/σ error at its first layer"),
        "relative error",
        log_y=True,
        bound=BOUND,
    ),
    effect="γ/σ error at its first layer",
    caution="That the gradient of batch norm is γ/σ·dL/dy is told in many places and holds with frozen statistics "
    "only.",
    topic="gradient",
    duration="2 s",
    not_on_model="its table is of single layers: `sg.gradient_table` makes it of yours",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=2)
