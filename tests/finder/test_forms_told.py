"""Which form a skip is, where its graph has a mark of it; and no form where there is none."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from skipgrad.blocks import FORMS
from skipgrad.finder.forms import MARKS, forms_of, told


class Scaled(nn.Module):
    """x + scale · F(x), with dropout behind the scale."""

    def __init__(self, scale: Tensor, trained: bool = True) -> None:
        super().__init__()
        self.f = nn.Linear(4, 4)
        self.scale = nn.Parameter(scale) if trained else scale

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.dropout(self.scale * self.f(x), 0.1, self.training)


@pytest.mark.parametrize(
    ("block", "form"),
    [
        (Scaled(torch.tensor(0.0)), "rezero"),
        (Scaled(torch.zeros(1)), "rezero"),
        (Scaled(torch.zeros(4)), "layerscale"),
        (Scaled(torch.zeros(1, 4)), "layerscale"),
        (Scaled(torch.zeros(3, 4)), ""),  # a scale for each place too
        (Scaled(torch.zeros(4), trained=False), ""),  # a constant
    ],
)
def test_a_learned_factor_at_the_end_of_the_branch(block: nn.Module, form: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), block, nn.Linear(4, 2))
    graph = sg.find(model, torch.randn(3, 4))
    assert list(forms_of(graph).values()) == ([form] if form else [])


def test_nets_that_everybody_knows() -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        nets = {
            "convnext_tiny": torchvision.models.convnext_tiny(),
            "densenet121": torchvision.models.densenet121(),
            "resnet50": torchvision.models.resnet50(),
            "swin_t": torchvision.models.swin_t(),
        }
    x = torch.empty(1, 3, 64, 64, device="meta")
    found = {name: Counter(forms_of(sg.find(net, x)).values()) for name, net in nets.items()}
    assert found == {
        "convnext_tiny": Counter(layerscale=18),
        "densenet121": Counter(dense=58),
        "resnet50": Counter(),
        "swin_t": Counter(),
    }


def test_the_page_that_a_line_names_is_there(request: pytest.FixtureRequest) -> None:
    for form in MARKS:
        assert form in FORMS
        assert (request.config.rootpath / "docs" / "forms" / f"{form}.md").is_file()


def test_a_line_a_form() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Scaled(torch.zeros(4)), Scaled(torch.zeros(4)))
    (line,) = told(sg.find(model, torch.randn(2, 4)))
    assert line.startswith("2 × layerscale: a learned scale for each channel")
    assert told(sg.SkipGraph.from_json(sg.find(model, torch.randn(2, 4)).to_json())) == []
