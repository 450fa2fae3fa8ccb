from __future__ import annotations

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from skipgrad.core import Layer, Measurements, RemedyRefused, SkipGraph
from skipgrad.remedies import Evidence, remedy

ZERO = remedy("zero-init")


class PreNorm(nn.Module):
    """A transformer block of torch's own attention, with a learned scale on its second branch."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))
        self.gamma = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.n1(x)
        x = x + self.attn(n, n, n, need_weights=False)[0]
        return x + self.gamma * self.mlp(self.n2(x))


def test_every_branch_is_zero_and_alive():
    model, x, graph = cases.residual()
    with ZERO.plan(graph).apply(model) as applied:
        seen = applied.verify(
            Evidence(x, measured=cases.brute_force(model, x, graph), loss=lambda: model(x).square().mean())
        )
        assert [c.state for c in seen.checks] == ["passed"] * 4
        assert seen.residual == 0
        for block in model.blocks:
            h = torch.randn(3, 8, dtype=torch.float64)
            assert torch.equal(block(h), h)


def test_attention_and_a_scale_that_the_block_owns():
    torch.manual_seed(0)
    model, x = PreNorm(), torch.randn(2, 3, 8)
    plan = ZERO.plan(sg.find(model, x))
    with plan.apply(model) as applied:
        assert [e.where for e in plan.edits][1:] == [""]
        assert not model.attn.out_proj.weight.any()
        assert not model.attn.out_proj.bias.any()
        assert not model.gamma.any()
        assert model.mlp[2].weight.any()
        assert torch.equal(model(x), x)
        assert applied.verify(Evidence(x, loss=lambda: model(x).square().mean())).ok


@pytest.mark.parametrize(("last", "dead"), [(nn.ReLU(), True), (nn.GELU(), False), (nn.LeakyReLU(), False)])
def test_an_activation_behind_the_last_layer(last: nn.Module, dead: bool):
    torch.manual_seed(0)
    block = cases.Block(8)
    block.f.append(last)
    x = torch.randn(4, 8)
    graph = sg.find(block, x)
    if dead:
        with pytest.raises(RemedyRefused, match="stay dead for ever"):
            ZERO.plan(graph)
        # The reason is true: zeroed all the same, the layer gets no gradient.
        with torch.no_grad():
            block.f[2].weight.zero_()
            block.f[2].bias.zero_()
        block(x).square().sum().backward()
        assert not block.f[2].weight.grad.any()
    else:
        with ZERO.plan(graph).apply(block) as applied:
            assert applied.verify(Evidence(x, loss=lambda: block(x).square().sum())).ok


def test_verify_sees_a_dead_layer_and_a_layer_that_is_not_zero():
    torch.manual_seed(0)
    block, x = cases.Block(8), torch.randn(4, 8)
    with ZERO.plan(sg.find(block, x)).apply(block) as applied:
        with torch.no_grad():
            block.f[2].bias.fill_(0.25)
        seen = applied.verify(x)
        assert not seen.ok
        assert seen.residual == 0.25
        dead = applied.verify(Evidence(loss=lambda: (block(x) * 0).sum()))
        assert dead.checks[-1].state == "failed"
        assert dead.checks[-1].reason == "none at f.2"


def test_verify_leaves_buffers_gradients_mode_and_random_state_alone():
    torch.manual_seed(0)
    model = nn.Sequential(cases.Block(8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    model[0].f.append(nn.Dropout(0.1))
    x = torch.randn(4, 8)
    model(x).sum().backward()
    with ZERO.plan(sg.find(model, x)).apply(model) as applied:
        before, rng = cases.state(model), torch.get_rng_state()
        grads = [p.grad.clone() for p in model.parameters()]
        assert applied.verify(Evidence(x, loss=lambda: model(x).square().mean())).ok
        assert cases.same(before, cases.state(model))
        assert torch.equal(rng, torch.get_rng_state())
        assert all(torch.equal(g, p.grad) for g, p in zip(grads, model.parameters(), strict=True))
        assert cases.hooks(model) == 0


def test_checks_without_inputs_are_not_called_passed():
    model, _, graph = cases.residual()
    with ZERO.plan(graph).apply(model) as applied:
        seen = applied.verify()
        assert [c.state for c in seen.checks] == ["passed"] + ["not applicable"] * 3
        assert "no example inputs given" in str(seen)


def test_undo_after_training_restores_only_what_was_zeroed():
    model, x, graph = cases.residual()
    before = cases.state(model)
    applied = ZERO.plan(graph).apply(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert model.blocks[0].f[2].weight.any()
    applied.undo()
    after = cases.state(model)
    assert torch.equal(after["blocks.0.f.2.weight"], before["blocks.0.f.2.weight"])
    assert not torch.equal(after["stem.weight"], before["stem.weight"])


# -- what is left alone ------------------------------------------------------------------------------


def test_projections_concats_and_inner_merges_are_left_alone():
    graph = SkipGraph(
        (
            cases.skip("a", ("f.2",)),
            cases.skip("b", ("b.2",), shortcut="projection"),
            cases.skip("c", ("c.2",), kind="concat"),
            cases.skip("d", ("d.2",), tails=(("add",),)),
            cases.skip("e", ("e.2",), tails=(("someop",),)),
        )
    )
    plan = ZERO.plan(graph)
    assert [e.where for e in plan.edits] == ["f.2"]
    reasons = {s.skip: s.reason for s in plan.skipped}
    assert set(reasons) == {"b", "c", "d", "e"}
    assert "projection" in reasons["b"]
    assert "concat" in reasons["c"]
    assert "another merge" in reasons["d"]
    assert "someop" in reasons["e"]


def test_a_module_called_elsewhere_is_left_alone():
    layers = tuple(Layer(n, "linear", (2, 4), "f") for n in ("f", "f#2"))
    once = SkipGraph((cases.skip("a", ("f",), end=1),), layers=layers)
    with pytest.raises(RemedyRefused, match="1 more place of the forward"):
        ZERO.plan(once)
    both = SkipGraph((cases.skip("a", ("f",), end=1), cases.skip("a#2", ("f",), start=1, end=2)), layers=layers)
    assert [e.skip for e in ZERO.plan(both).edits] == ["a, a#2"]


def test_a_norm_used_on_two_branches_is_left_alone():
    graph = SkipGraph((cases.skip("a", ("f", "norm"), end=1), cases.skip("b", ("norm", "g"), start=1, end=2)))
    plan = ZERO.plan(graph)
    assert [e.where for e in plan.edits] == ["g"]
    assert plan.skipped[0].reason == "its last layer 'norm' is used on the branch of b too"


def test_tied_weights_are_left_alone():
    model, _, graph = cases.residual(depth=2)
    model.blocks[1].f[2].weight = model.blocks[0].f[0].weight
    with ZERO.plan(graph).apply(model) as applied:
        assert list(applied.targets) == ["blocks.0.f.2"]
        assert "shares its weight with 'blocks.0.f.0'" in applied.skipped[-1].reason
        assert model.blocks[1].f[2].weight.any()


class ShiftedNorm(nn.Module):
    """Its output is n · (1 + weight): a zero weight makes it an identity, not a zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.rms_norm(x, x.shape[-1:]) * (1 + self.weight)


class Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class Affine(nn.Module):
    """Somebody's own linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


@pytest.mark.parametrize("kind", [ShiftedNorm, nn.PReLU])
def test_a_module_whose_weight_does_not_scale_its_output_is_refused(kind: type[nn.Module]):
    torch.manual_seed(0)
    block, x = cases.Block(8), torch.randn(4, 8)
    block.f.append(kind(8))
    before = cases.state(block)
    with pytest.raises(RemedyRefused, match="does not scale with its weight"):
        ZERO.plan(sg.find(block, x)).apply(block)
    assert cases.same(before, cases.state(block))


@pytest.mark.parametrize("kind", [Scale, Affine, nn.LayerNorm])
def test_a_module_of_ones_own_is_tried_and_zeroed(kind: type[nn.Module]):
    torch.manual_seed(0)
    block, x = cases.Block(8), torch.randn(4, 8)
    block.f.append(kind(8))
    rng = torch.get_rng_state()
    with ZERO.plan(sg.find(block, x)).apply(block) as applied:
        assert torch.equal(rng, torch.get_rng_state())
        assert list(applied.targets) == ["f.3"]
        assert torch.equal(block(x), x)


def test_weight_norm_is_refused():
    block, x = cases.Block(8), torch.randn(4, 8)
    graph = sg.find(block, x)
    nn.utils.parametrizations.weight_norm(block.f[2])
    with pytest.raises(RemedyRefused, match="parametrized"):
        ZERO.plan(graph).apply(block)


def test_not_a_number_becomes_zero_too():
    model, x, graph = cases.residual()
    with torch.no_grad():
        model.blocks[0].f[2].weight[0, 0] = float("nan")
    with ZERO.plan(graph).apply(model) as applied:
        assert applied.verify(x).ok


def test_measured_rms_that_is_not_zero_fails():
    model, _, graph = cases.residual()
    with ZERO.plan(graph).apply(model) as applied:
        seen = applied.verify(
            Evidence(measured=Measurements(graph, (cases.row(graph.skips[0].name, 1, 0, branch_rms=0.1),)))
        )
        assert seen.checks[2].state == "failed"
        assert seen.checks[2].residual == 0.1
