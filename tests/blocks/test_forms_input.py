"""What does not fit is refused, with the branch's path, both shapes and what to use instead."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from skipgrad import SkipgradError
from skipgrad.blocks import forms
from skipgrad.blocks.forms import (
    Highway,
    HyperConnections,
    LongSkip,
    ManifoldHyperConnections,
    Reversible,
    StochasticDepth,
)
from skipgrad.core import BadInput

WIDER = nn.Linear(6, 8)
ADDING: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: forms.Residual(WIDER),
    "preact": lambda: forms.PreAct(WIDER),
    "rezero": lambda: forms.ReZero(WIDER),
    "skipinit": lambda: forms.SkipInit(WIDER),
    "layerscale": lambda: forms.LayerScale(WIDER, 8),
    "nfnet": lambda: forms.NFNet(WIDER),
    "fixup": lambda: forms.Fixup(nn.Linear(6, 8), 2),
    "stochastic-depth": lambda: StochasticDepth(WIDER, 0.5),
    "stochastic-depth, evaluated": lambda: StochasticDepth(WIDER, 0.5).eval(),
    "highway": lambda: Highway(WIDER, nn.Linear(6, 6)),
    "admin": lambda: forms.Admin(WIDER, 6, nn.LayerNorm(6)),
    "deepnorm": lambda: forms.DeepNorm(nn.Linear(6, 8), nn.LayerNorm(6), 2),
    "keel": lambda: forms.Keel(WIDER, nn.LayerNorm(6), nn.LayerNorm(6), 2),
    "laurel": lambda: forms.Laurel(WIDER, 6, 2),
    "long-add": lambda: LongSkip(WIDER, merge="add"),
    "hyper-connections": lambda: HyperConnections([WIDER], 6),
    "hyper-connections, dynamic": lambda: HyperConnections([WIDER], 6, dynamic=True),
    "mhc": lambda: ManifoldHyperConnections([WIDER], 6),
    "mhc, dynamic": lambda: ManifoldHyperConnections([WIDER], 6, dynamic=True),
    "denseformer": lambda: forms.DenseFormer([WIDER]),
    "attention-residual": lambda: forms.AttentionResidual([WIDER], 6),
}


@pytest.mark.parametrize("name", ADDING)
def test_shapes_that_do_not_add_are_named_with_what_to_use(name: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(BadInput) as error:
        nn.Sequential(nn.Identity(), ADDING[name]())(torch.randn(16, 6))
    message = str(error.value)
    assert re.search(r"where: +1(\.layers\.0)?\.(branch|inner)", message), message
    assert re.search(r"shape \(\d+, 6\)", message)
    assert re.search(r"returned \(\d+, 8\)", message)
    assert "projection" in message
    assert "pad" in message


def test_an_inner_part_that_does_not_come_back_is_named() -> None:
    model = nn.Sequential(nn.Identity(), LongSkip(nn.MaxPool2d(2)))
    with pytest.raises(BadInput, match=r"(?s)1\.inner, a MaxPool2d.*\(2, 4, 8, 8\).*\(2, 4, 4, 4\).*pad"):
        model(torch.randn(2, 4, 8, 8))
    with pytest.raises(BadInput, match=r"1\.layers"):
        nn.Sequential(nn.Identity(), forms.Dense([nn.MaxPool2d(2)]))(torch.randn(2, 4, 8, 8))


@pytest.mark.parametrize("p", [0, -0.1, 1.5, float("nan"), "0.5", None])
def test_a_survival_probability_outside_its_range(p: object) -> None:
    with pytest.raises(BadInput, match=r"(?s)survival_prob=.*above 0 and at most 1"):
        StochasticDepth(nn.Linear(2, 2), p)  # type: ignore[arg-type]


class WritesIntoItsInput(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    ("branch", "words"),
    [
        (nn.Linear(3, 4), r"given \(4, 3\) and returned \(4, 4\)"),
        (WritesIntoItsInput(), "writes into its input"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3)), "writes into its input"),
    ],
)
def test_a_reversible_branch_that_cannot_be_run_back(branch: nn.Module, words: str, grad: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 6), Reversible(nn.Linear(3, 3), branch))
    with torch.set_grad_enabled(grad), pytest.raises(BadInput, match=rf"(?s)1\.g.*{words}"):
        model(torch.randn(4, 6))


@pytest.mark.parametrize(
    "kind", [HyperConnections, ManifoldHyperConnections, forms.HyperConnection, forms.ManifoldHyperConnection]
)
@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_fewer_than_one_stream(kind: type, n: object) -> None:
    with pytest.raises(BadInput, match="num_residual_streams"):
        kind([] if kind.__name__.endswith("s") else nn.Identity(), 6, n)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: forms.Projection(WIDER, 8, 4, option="A"), "projection"),
        (lambda: forms.Projection(WIDER, 4, 8, option="C"), "A, B"),  # type: ignore[arg-type]
        (lambda: forms.Projection(WIDER, 8, 4, option="A", layout="features"), "shrink"),
        (lambda: LongSkip(WIDER, merge="cat"), "concat"),  # type: ignore[arg-type]
        (lambda: forms.ScaleLong(WIDER, kappa=0), "kappa"),
        (lambda: forms.ScaleLong(WIDER, "learned"), "channels"),
        (lambda: forms.ScaleLong(WIDER, "leaned"), "learned"),  # type: ignore[arg-type]
        (lambda: forms.NFNet(WIDER, beta=0), "positive"),
        (lambda: forms.Fixup(nn.ReLU(), 3), "0 matrices"),
        (lambda: forms.Fixup(WIDER, 0), "num_blocks=0"),
        (lambda: forms.DeepNorm(WIDER, nn.LayerNorm(8), 0), "layers=0"),
        (lambda: forms.Keel(WIDER, nn.LayerNorm(8), nn.LayerNorm(8), 0), "number of branches"),
        (lambda: forms.Laurel(WIDER, 6, -1), "rank"),
        (lambda: forms.DenseFormer([WIDER], dilation=0), "dilation=0"),
        (lambda: forms.FPN([], 4), "no levels"),
        (lambda: forms.FPN([4], 4)([torch.ones(1, 3, 4, 4)]), r"\[4\] channels"),
        (lambda: forms.IndexSkip(nn.Conv2d(4, 5, 1))(torch.ones(1, 4, 4, 4)), "long-concat"),
        (lambda: forms.ManifoldHyperConnection(WIDER, 6, iterations=0), "iterations=0"),
        (lambda: forms.ValueResidual([WIDER]), r"values\(x\)"),
        (lambda: forms.ReversibleSequence([]), "0 blocks"),
        (lambda: Reversible(WIDER, WIDER)(torch.ones(2, 3)), "odd"),
        (lambda: forms.profile(WIDER, torch.ones(2, 6)), "form=admin"),
        (lambda: StochasticDepth(WIDER, 0.5, "col"), "row"),  # type: ignore[arg-type]
        (lambda: forms.FORMS.get("layer-scale"), "layerscale"),
    ],
)
def test_mistakes_are_explained(make: Callable[[], object], words: str) -> None:
    with pytest.raises(SkipgradError, match=words):
        make()
