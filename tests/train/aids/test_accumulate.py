import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import skipgrad as sg
from skipgrad.core import BadInput
from skipgrad.train.aids import shares


def net():
    torch.manual_seed(1)
    return nn.Linear(6, 4).double()


def samples(many, ignored=()):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(many, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (many,), generator=generator)
    y[list(ignored)] = -100
    return x, y


@pytest.mark.parametrize("ignored", [(), (0, 1, 2, 7)])
@pytest.mark.parametrize("cuts", [(4, 4, 4), (5, 5, 2), (11, 1)])
def test_uneven_micro_batches_and_ignored_labels_give_the_gradient_of_the_whole(cuts, ignored):
    x, y = samples(12, ignored)
    one, many = net(), net()
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    loss = F.cross_entropy(one(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(one.parameters(), 0.1)
    optimizer.step()
    step = sg.Accumulate(many, torch.optim.SGD(many.parameters(), lr=0.1), clip=0.1)
    got = step(list(zip(x.split(cuts), y.split(cuts), strict=True)), lambda b: F.cross_entropy(many(b[0]), b[1]))
    assert got == pytest.approx(float(loss.detach()), rel=1e-12)
    for a, b in zip(one.parameters(), many.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-14)


def test_a_plain_mean_of_means_would_not():
    x, y = samples(12)
    model = net()
    whole = F.cross_entropy(model(x), y)
    means = [F.cross_entropy(model(a), b) for a, b in zip(x.split((11, 1)), y.split((11, 1)), strict=True)]
    assert abs(float((whole - sum(means) / 2).detach())) > 1e-3


def test_a_micro_batch_without_a_label_counts_for_nothing_and_none_with_one_is_refused():
    assert shares([3, 0, 1]) == [0.75, 0.0, 0.25]
    with pytest.raises(BadInput, match="without a label"):
        shares([0, 0])


def test_the_mean_of_the_weights_is_the_mean_of_the_weights():
    model = net()
    ema, mean = sg.EMA(model, decay=0.9), None
    for k in range(5):
        with torch.no_grad():
            model.weight.add_(k)
        ema.update()
        mean = model.weight.detach().clone() if mean is None else 0.9 * mean + 0.1 * model.weight.detach()
    assert torch.allclose(ema.model.weight, mean)
    other = sg.EMA(copy.deepcopy(model), decay=0.9)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.model.weight, ema.model.weight)
    with pytest.raises(BadInput):
        sg.EMA(model, decay=1.0)
