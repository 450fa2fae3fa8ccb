"""The built-in nets with every form of skip, and as many weights as the papers say."""

from __future__ import annotations

import pytest
import torch

import skipgrad as sg
from skipgrad.blocks.forms import FORMS
from skipgrad.core import BadInput
from skipgrad.models import fit, resolve_model
from skipgrad.models.nets import _blocks, _stacks

RESIDUAL = [*_blocks.FORMS]
PRELN = [*_stacks.ADDING, *_stacks.STREAMS, *_stacks.AROUND]
POSTLN = [*_stacks.ADDING, *_stacks.NORMED, *_stacks.AROUND]
NETS = [
    *(("resnet8", form) for form in ["residual", *RESIDUAL]),
    *(("preresnet8", form) for form in ["preact", *RESIDUAL]),
    *(("preln2", form) for form in ["residual", *PRELN]),
    *(("postln2", form) for form in ["residual", *POSTLN]),
]


@pytest.mark.parametrize(
    ("name", "args", "millions", "digit"),
    [
        ("resnet20", {"width": 16, "in_channels": 3}, 0.27, 0.01),
        ("resnet56", {"width": 16, "in_channels": 3}, 0.85, 0.01),
        ("resnet110", {"width": 16, "in_channels": 3}, 1.7, 0.1),
        ("densenetbc100", {"in_channels": 3}, 0.8, 0.1),
        ("imagenet_resnet50", {}, 25.6, 0.1),
        ("revnet38", {"in_channels": 3}, 0.46, 0.01),
    ],
)
def test_as_many_weights_as_the_paper_says(name: str, args: dict[str, int], millions: float, digit: float) -> None:
    with torch.device("meta"):
        model = resolve_model(f"skipgrad:{name}", args).build()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=digit / 2)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_imagenet_depths_have_the_weights_of_torchvisions(depth: int) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        mine = resolve_model(f"skipgrad:imagenet_resnet{depth}").build()
        theirs = getattr(models, f"resnet{depth}")()
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert len(sg.find(mine, torch.empty(1, 3, 64, 64, device="meta"))) == len(
        sg.find(theirs, torch.empty(1, 3, 64, 64, device="meta"))
    )


@pytest.mark.parametrize(("name", "form"), NETS)
def test_every_form_learns(name: str, form: str) -> None:
    assert form in FORMS
    data = "text" if "ln" in name else "digits"
    work = fit(f"skipgrad:{name}", {"form": form}, data, batch_size=16)
    torch.manual_seed(0)
    model, batch = work.build(), work.example
    optimizer = torch.optim.Adam(sg.param_groups(model, weight_decay=0.0), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = work.loss(model(*batch.args, **batch.kwargs), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < losses[0]


@pytest.mark.parametrize(("name", "form"), NETS)
def test_find_sees_its_skips(name: str, form: str) -> None:
    source = resolve_model(f"skipgrad:{name}", {"form": form})
    args, kwargs = source.example()
    with torch.device("meta"):
        graph = sg.find(source.build(), *args, **kwargs)
    branches = 3 if "res" in name else 4
    if form == "attention-residual":
        assert len(graph) == 0
        assert len(graph.others) >= branches
    else:
        extra = {"denseformer": 2, "value-residual": 1}.get(form, 0)
        assert len(graph) == branches + extra
        shortcuts = {"deepnorm": "scaled", "keel": "scaled", "admin": "scaled", "laurel": "scaled"}
        shortcuts |= {"hyper-connections": "projection", "mhc": "projection"}
        assert graph.count(shortcut=shortcuts.get(form, "identity")) >= (branches if "ln" in name else 1)


@pytest.mark.parametrize("form", ["rezero", "skipinit", "fixup"])
def test_forms_that_start_as_the_identity_leave_stem_and_shortcuts(form: str) -> None:
    torch.manual_seed(0)
    deep, shallow = (resolve_model(f"skipgrad:preresnet{d}", {"form": form, "norm": "none"}).build() for d in (20, 8))
    for name in ("conv", "last_norm", "head"):
        getattr(deep, name).load_state_dict(getattr(shallow, name).state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(deep(x), shallow(x))


@pytest.mark.parametrize(
    ("name", "form", "words"),
    [
        ("preln2", "deepnorm", "skipgrad:postln2"),
        ("postln2", "mhc", "skipgrad:preln2"),
        ("postln2", "deepnrom", "deepnorm"),
        ("resnet8", "rezro", "rezero"),
        ("resnet8", "deepnorm", "known: residual"),
    ],
)
def test_a_form_that_the_net_does_not_have(name: str, form: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        resolve_model(f"skipgrad:{name}", {"form": form}).build()


def test_a_unet_whose_skips_are_scaled() -> None:
    torch.manual_seed(0)
    nets = {skip: resolve_model("skipgrad:unet", {"skip": skip}).build().eval() for skip in ("concat", "scaled")}
    nets["scaled"].load_state_dict(nets["concat"].state_dict())
    nets["scaled"].kappa = 1.0
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(nets["scaled"](x), nets["concat"](x))
    nets["scaled"].kappa = 0.7
    found = sg.find(nets["scaled"], x)
    assert [s.shortcut for s in found] == ["scaled", "scaled", "identity"]
