import pytest
import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import BadInput


def test_no_unit_has_a_larger_gradient_than_its_share_of_its_weights():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 4))
    (100 * net(torch.randn(4, 3, 8, 8)).square().mean()).backward()
    before = [p.grad.clone() for p in net.parameters()]
    clipped = sg.clip_adaptively(net.parameters(), clip_factor=0.02)
    assert clipped > 0
    for p, old in zip(net.parameters(), before, strict=True):
        flat = lambda t: t.flatten(1) if t.dim() > 1 else t[None]  # noqa: E731
        sizes, grads = flat(p.detach()).norm(dim=1).clamp_min(1e-3), flat(p.grad).norm(dim=1)
        assert (grads <= 0.02 * sizes * (1 + 1e-5)).all()
        small = flat(old).norm(dim=1) <= 0.02 * sizes
        assert torch.equal(flat(p.grad)[small], flat(old)[small])


def test_it_agrees_with_timm():
    agc = pytest.importorskip("timm.utils.agc")
    torch.manual_seed(0)
    one, two = nn.Linear(5, 7), nn.Linear(5, 7)
    two.load_state_dict(one.state_dict())
    for net in (one, two):
        net.weight.grad = torch.linspace(-1, 3, 35).reshape(7, 5)
    sg.clip_adaptively([one.weight], 0.05)
    agc.adaptive_clip_grad([two.weight], clip_factor=0.05)
    assert torch.allclose(one.weight.grad, two.weight.grad, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "seen"), [("rising", [0, 0.1, 0.2]), ("falling", [0.2, 0.1, 0]), ("constant", [0.2] * 3)]
)
def test_probabilities_follow_the_steps_and_come_back(schedule, seen):
    net = nn.Sequential(nn.Dropout(0.2), nn.Linear(2, 2))
    rates = sg.DropRates(net, steps=3, schedule=schedule)
    got = []
    for step in range(3):
        rates.set(step)
        got.append(net[0].p)
    assert got == pytest.approx(seen)
    rates.undo()
    assert net[0].p == 0.2


def test_stochastic_depth_of_torchvision_and_timm_follows_too():
    torchvision, timm = pytest.importorskip("torchvision"), pytest.importorskip("timm")
    net = nn.Sequential(torchvision.ops.StochasticDepth(0.4, "row"), timm.layers.DropPath(0.3))
    sg.DropRates(net, steps=2, schedule="rising").set(0)
    assert (net[0].p, net[1].drop_prob) == (0, 0)


def test_a_schedule_for_a_net_that_drops_nothing_is_refused():
    with pytest.raises(BadInput, match="drop nothing"):
        sg.DropRates(nn.Linear(2, 2), steps=3)
