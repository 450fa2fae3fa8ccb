"""The built-in nets: names, depths, and that each family learns from the data it was made for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skipgrad.core import BadInput, ModelError, UnknownName
from skipgrad.models import fit, resolve_model
from skipgrad.models.nets import FAMILIES, typical_names

SMALL = {
    "plain": "plain8",
    "resnet": "resnet8",
    "preresnet": "preresnet8",
    "densenet": "densenet10",
    "highway": "highway3",
    "unet": "unet",
    "preln": "preln2",
    "postln": "postln2",
    "imagenet_resnet": "imagenet_resnet18",
    "imagenet_preresnet": "imagenet_preresnet18",
    "densenetbc": "densenetbc10",
    "segnet": "segnet",
    "fpn": "fpn",
    "fasterrcnn": "fasterrcnn",
    "revnet": "revnet14",
}
ARGS = {"imagenet_resnet": {"width": 8}, "imagenet_preresnet": {"width": 8}, "revnet": {"width": 8}}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_trains_a_step_on_its_natural_data(family):
    work = fit(f"skipgrad:{SMALL[family]}", ARGS.get(family, {}), FAMILIES.get(family).data, batch_size=16)
    torch.manual_seed(0)
    model = work.build()
    assert model.training
    batch = work.example
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(6):
        loss = work.loss(model(*batch.args, **batch.kwargs), batch)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", typical_names())
def test_every_typical_name_builds_on_meta_and_runs_its_example(name):
    source = resolve_model(f"skipgrad:{name}")
    with torch.device("meta"):
        model = source.build()
    args, kwargs = source.example()
    if source.kind == "detection":  # it picks boxes by their scores, which needs numbers
        assert set(source.build().eval()([torch.rand(3, 64, 64)])[0]) == {"boxes", "labels", "scores"}
        return
    assert model(*args, **kwargs).is_meta


@pytest.mark.parametrize("name", ["plain20", "plain56", "resnet20", "resnet56", "preresnet20", "densenet22"])
def test_depth_counts_the_weighted_layers(name):
    model = resolve_model(f"skipgrad:{name}").build()
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == int("".join(c for c in name if c.isdigit()))


def test_plain_and_residual_nets_have_the_same_weights_from_the_same_seed():
    nets = []
    for name in ("plain20", "resnet20"):
        torch.manual_seed(5)
        nets.append(resolve_model(f"skipgrad:{name}", {"norm": "none"}).build().state_dict())
    assert list(nets[0]) == list(nets[1])
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


def test_unet_without_skips_has_as_many_weights():
    counts = {
        skip: sum(p.numel() for p in resolve_model("skipgrad:unet", {"skip": skip}).build().parameters())
        for skip in ("concat", "none")
    }
    assert counts["concat"] == counts["none"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plain57", "plain56 or plain62"),
        ("plain2", "plain8"),
        ("plain9999", "up to 2000"),
        ("densenet23", "densenet22 or densenet25"),
        ("plain", "plain20"),
        ("unet5", "no depths"),
        ("imagenet_resnet42", "imagenet_resnet34 or imagenet_resnet50"),
        ("revnet40", "revnet38 or revnet50"),
        ("plian56", "plain56"),
        ("", "skipgrad:plain56"),
        ("Résnet", "no built-in model"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name, words):
    with pytest.raises((UnknownName, BadInput)) as error:
        resolve_model(f"skipgrad:{name}")
    assert words in str(error.value)


def test_wrong_arguments_are_answered_with_the_signature():
    with pytest.raises(ModelError) as error:
        resolve_model("skipgrad:plain20", {"widht": 4}).build()
    assert "widht" in str(error.value)
    assert "width: 'int' = 8" in str(error.value)
    with pytest.raises(BadInput, match="norm="):
        resolve_model("skipgrad:plain20", {"norm": "bach"}).build()
    with pytest.raises(BadInput, match="positive"):
        resolve_model("skipgrad:plain20", {"width": 0}).build()


def test_a_context_too_short_for_the_input_is_explained():
    model = resolve_model("skipgrad:preln1", {"context": 8}).build()
    with pytest.raises(BadInput, match="context"):
        model(torch.zeros(1, 9, dtype=torch.long))


def test_the_default_plain56_has_a_vanishing_gradient_and_the_residual_net_has_not():
    ratios = {}
    for name, args in (("plain56", {}), ("resnet56", {"norm": "none"})):
        work = fit(f"skipgrad:{name}", args, "digits", batch_size=32)
        torch.manual_seed(0)
        model = work.build()
        batch = work.example
        work.loss(model(*batch.args), batch).backward()
        ratios[name] = float(model.conv.weight.grad.double().norm() / model.head.weight.grad.double().norm())
    assert ratios["plain56"] < 1e-15
    assert ratios["resnet56"] > 1e-3
