"""prodigy brings its own optimizer, and the typed rate plays no part."""

from __future__ import annotations

import json

import pytest
import torch

from remedies import cases
from skipgrad.core import BadInput, Recipe, RemedyRefused
from skipgrad.models import fit
from skipgrad.race import prepare_with
from skipgrad.remedies import Evidence, remedy
from skipgrad.train import train_trial

prodigyopt = pytest.importorskip("prodigyopt")


def test_the_typed_rate_plays_no_part(capsys: pytest.CaptureFixture[str]) -> None:
    work = fit("skipgrad:resnet8", {}, "digits", batch_size=16)
    losses = []
    for rate in (1e-6, 10.0):
        result = train_trial(work, Recipe(steps=12, batch_size=16, lr=rate), prepare=prepare_with("prodigy", work))
        losses.append([p.loss for p in result.losses])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert min(losses[0][-4:]) < losses[0][0]
    assert capsys.readouterr().out == ""  # a line of the package's own would spoil --json


def test_it_is_the_package_s_and_decays_as_adamw() -> None:
    model, x, graph = cases.residual()
    applied = remedy("prodigy", d_coef=0.5).plan(graph).apply(model)
    assert applied.notes == ()
    optimizer = applied.optimizer(model.parameters())
    assert type(optimizer) is prodigyopt.Prodigy
    assert optimizer.param_groups[0]["weight_decay"] == 0.01
    assert applied.optimizer(model.parameters(), 0.3).param_groups[0]["weight_decay"] == 0.3
    optimizer = applied.optimizer(model.parameters())
    applied.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert optimizer.param_groups[0]["d_coef"] == 0.5
    assert "own rate is" in applied.notes[0]
    checked = applied.verify(Evidence())
    assert checked.checks[-1].state == "passed"
    json.dumps(float(optimizer.param_groups[0]["d"]))


def test_another_optimizer_is_refused() -> None:
    model, _, graph = cases.residual()
    applied = remedy("prodigy").plan(graph).apply(model)
    with pytest.raises(RemedyRefused, match=r"applied\.optimizer"):
        applied.attach(torch.optim.SGD(model.parameters(), lr=0.1))


def test_a_plain_net_has_nothing_to_zero_and_is_trained_all_the_same() -> None:
    model, _, graph = cases.plain()
    before = cases.state(model)
    applied = remedy("prodigy").plan(graph).apply(model)
    assert cases.same(before, cases.state(model))
    assert [e.where for e in applied.plan.edits] == ["optimizer"]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "one"])
def test_bad_options(value: object) -> None:
    with pytest.raises(BadInput, match="setting up prodigy"):
        remedy("prodigy", d_coef=value)
