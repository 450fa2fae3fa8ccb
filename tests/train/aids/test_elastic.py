import pytest
import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import BadInput

sklearn = pytest.importorskip("sklearn.linear_model")


def problem():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(200, 12, generator=generator, dtype=torch.float64)
    true = torch.tensor([2.0, -1.5, 0, 0, 0.7, 0, 0, 0, 0, 0, 0, 0.1], dtype=torch.float64)
    return x, x @ true + 0.3 + 0.1 * torch.randn(200, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("l1", "l2"), [(0.1, 0.0), (0.05, 0.2), (0.3, 0.05)])
def test_it_finds_what_scikit_learn_finds(l1, l2):
    x, y = problem()
    # scikit-learn minimises |y−Xw|²/2n + αρ|w| + α(1−ρ)w²/2.
    known = sklearn.ElasticNet(alpha=l1 + 2 * l2, l1_ratio=l1 / (l1 + 2 * l2), tol=1e-12, max_iter=100_000)
    known.fit(x.numpy(), y.numpy())
    net = nn.Linear(12, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    elastic = sg.ElasticNet(optimizer, l1=l1, l2=l2)
    for _ in range(2000):
        optimizer.zero_grad()
        (0.5 * (net(x).squeeze(1) - y).square().mean()).backward()
        optimizer.step()
    found = net.weight.detach()[0]
    assert torch.allclose(found, torch.from_numpy(known.coef_), atol=1e-4, rtol=0)
    assert abs(float(net.bias.detach()) - float(known.intercept_)) < 1e-4
    assert ((found == 0).numpy() == (known.coef_ == 0)).all(), "the zeros are exact"
    assert elastic.sparsity() == pytest.approx(float((known.coef_ == 0).mean()))
    assert elastic.sparsity() > 0


@pytest.mark.parametrize("make", [lambda p: torch.optim.AdamW(p, lr=0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9)])
def test_it_makes_exact_zeros_behind_any_optimizer_and_leaves_vectors_alone(make):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = make(net.parameters())
    sg.ElasticNet(optimizer, l1=0.05)
    x = torch.randn(64, 8)
    for _ in range(200):
        optimizer.zero_grad()
        (net(x).squeeze(1) - x[:, 0]).square().mean().backward()
        optimizer.step()
    assert (net[0].weight == 0).float().mean() > 0.05
    assert not (net[0].bias == 0).any()


def test_a_group_may_have_its_own_and_undo_ends_it():
    one, two = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([{"params": [one], "l1": 0.5}, {"params": [two]}], lr=1.0)
    elastic = sg.ElasticNet(optimizer)
    one.grad, two.grad = torch.zeros(2, 2), torch.zeros(2, 2)
    optimizer.step()
    assert torch.equal(one, torch.full((2, 2), 0.5))
    assert torch.equal(two, torch.ones(2, 2))
    assert elastic.penalty() == pytest.approx(0.5 * 4 * 0.5)
    elastic.undo()
    optimizer.step()
    assert torch.equal(one, torch.full((2, 2), 0.5))


def test_a_step_the_scaler_skips_shrinks_nothing():
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([w], lr=1.0)
    sg.ElasticNet(optimizer, l1=0.5)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((w * float("inf")).sum()).backward()
    scaler.step(optimizer)
    assert torch.equal(w, torch.ones(2, 2))


@pytest.mark.parametrize(("l1", "l2"), [(-1.0, 0.0), (0.0, float("nan")), ("much", 0.0)])
def test_a_lambda_that_cannot_be_is_refused(l1, l2):
    with pytest.raises(BadInput, match="number from 0 on"):
        sg.ElasticNet(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), l1=l1, l2=l2)
