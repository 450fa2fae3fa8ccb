"""The forms put into nets that exist: what they compute, what they leave, and that they are gone after undo."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from skipgrad.core import BadInput, RemedyRefused
from skipgrad.remedies import Evidence
from skipgrad.remedies.retrofit.design import NEW, SAME


class InPlace(nn.Module):
    """As in torchvision: the sum is made in place, the branch first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.branch(x)
        out += x
        return torch.relu_(out)


class Net(nn.Module):
    def __init__(self, block: type[nn.Module] = InPlace, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(block() for _ in range(depth)))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Dense(nn.Module):
    """A dense block: every layer reads all features before it; the last concatenation grows by one at a time."""

    def __init__(self, growing: bool = False, depth: int = 3) -> None:
        super().__init__()
        self.growing, self.stem = growing, nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 + 2 * k), nn.ReLU(), nn.Conv2d(4 + 2 * k, 2, 3, padding=1))
            for k in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        if self.growing:
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


class Attention(nn.Module):
    """A post-norm transformer layer with its projections apart."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.q_proj(x) @ self.k_proj(x).transpose(-1, -2), -1)
        x = self.norm1(x + self.out(weights @ self.v_proj(x)))
        return self.norm2(x + self.down(torch.relu(self.up(x))))


def transformer(depth: int = 2) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), *(Attention() for _ in range(depth)), nn.Linear(8, 2))
    return model.double().eval(), torch.randn(3, 5, 8, dtype=torch.float64)


def images(model: nn.Module | None = None) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = Net() if model is None else model
    return model.double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)


def dense(growing: bool = False) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return Dense(growing).double().eval(), torch.randn(3, 3, 8, 8, dtype=torch.float64)


def attention() -> tuple[nn.Module, torch.Tensor]:
    model, x, _ = cases.attention()
    return model.double().eval(), x.double()


def unet() -> tuple[nn.Module, torch.Tensor]:
    model, x, _ = cases.unet()
    return model.double().eval(), x.double()


CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("rezero", {}, images),
    ("rezero", {"start": 1.0}, images),
    ("layerscale", {"init_values": 1.0}, images),
    ("layerscale", {}, transformer),
    ("skipinit", {}, images),
    ("fixup", {}, images),
    ("branch-scale", {}, images),
    ("branch-scale", {"scale": "1/L"}, transformer),
    ("stochastic-depth", {"survival_prob": 0.5}, images),
    ("stochastic-depth", {"survival_prob": 0.25}, dense),
    ("deepnorm", {}, transformer),
    ("pre-norm", {}, transformer),
    ("scalelong", {"kappa": 0.5}, unet),
    ("scalelong", {"learned": True}, unet),
    ("value-residual", {"start": 0.0}, attention),
    ("value-residual", {"start": 0.5}, attention),
    ("hyper-connections", {}, transformer),
    ("hyper-connections", {"num_residual_streams": 3}, images),
]
IDS = [f"{name}-{'-'.join(map(str, options.values()))}".rstrip("-") for name, options, _ in CASES]
each = pytest.mark.parametrize(("name", "options", "made"), CASES, ids=IDS)


def treated(name: str, options: dict[str, Any], model: nn.Module, x: torch.Tensor):
    return sg.remedy(name, **options).plan(sg.find(model, x)).apply(model)


@each
def test_it_is_verified_keeps_its_promise_and_leaves_nothing(name: str, options: dict[str, Any], made: Any) -> None:
    model, x = made()
    before, out = cases.state(model), model(x)
    graph = sg.find(model, x)
    applied = treated(name, options, model, x)
    told = applied.verify(Evidence(x))
    assert told.ok, str(told)
    assert applied.plan.promise in (SAME, NEW)
    assert set(applied.plan.reached) | {s.skip for s in applied.skipped} == {s.name for s in graph}
    if applied.plan.promise == SAME:
        assert torch.allclose(model(x), out, rtol=1e-12)
    else:
        assert not torch.allclose(model(x), out, rtol=1e-3)
    applied.undo()
    assert cases.same(before, cases.state(model))
    assert cases.hooks(model) == 0
    assert torch.equal(model(x), out)


@each
def test_the_skips_are_still_there(name: str, options: dict[str, Any], made: Any) -> None:
    model, x = made()
    graph = sg.find(model, x)
    with treated(name, options, model, x):
        again = sg.find(model, x)
    if name == "hyper-connections":  # each block is now a branch of several streams
        assert len(again) > len(graph)
    elif name == "value-residual":  # from the first values to each of the later ones
        added = [s.name for s in again if s.name not in {o.name for o in graph}]
        assert [s.name for s in again if s.name not in added] == [s.name for s in graph]
        assert added == ["2.skipgrad_value_residual.0", "3.skipgrad_value_residual.0"]
    elif options.get("learned"):  # computed from x, the factor is a gate: no identity is left
        assert [o.kind for o in again.others] == ["parallel", "parallel", "gate", "gate"]
    else:
        assert [s.name for s in again] == [s.name for s in graph]


@each
def test_an_old_checkpoint_loads_and_a_new_one_comes_back(name: str, options: dict[str, Any], made: Any) -> None:
    model, x = made()
    old = cases.state(model)
    with treated(name, options, model, x):
        assert model.load_state_dict(old) == nn.modules.module._IncompatibleKeys([], [])
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.1)
        new, out = cases.state(model), model(x)
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        model.load_state_dict(new)
        assert torch.equal(model(x), out)


@each
def test_a_copy_has_weights_of_its_own(name: str, options: dict[str, Any], made: Any) -> None:
    model, x = made()
    with treated(name, options, model, x):
        out = model(x)
        twin = copy.deepcopy(model)
        assert torch.equal(twin(x), out)
        with torch.no_grad():
            for p in twin.parameters():
                p.add_(0.3)
        changed = twin(x)
        assert torch.equal(model(x), out)
        assert not torch.equal(changed, out)
    assert torch.equal(twin(x), changed)  # undoing the one leaves the other


@each
def test_the_lines_do_the_same_without_us(name: str, options: dict[str, Any], made: Any) -> None:
    model, x = made()
    twin = copy.deepcopy(model)
    applied = treated(name, options, model, x)
    assert "skipgrad." not in applied.lines.replace("skipgrad: ", "")
    exec(compile(applied.lines, name, "exec"), {"model": twin, "__name__": "pasted"})
    torch.testing.assert_close(twin.eval()(x), model(x), rtol=1e-12, atol=1e-12)
    new = len(list(model.parameters()))
    assert len(list(twin.parameters())) == new


@each
@pytest.mark.slow
def test_compiled_it_computes_the_same(name: str, options: dict[str, Any], made: Any) -> None:
    model, x = made()
    with treated(name, options, model, x):
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        want = torch.autograd.grad(model(x).square().sum(), list(model.parameters()), allow_unused=True)
        got = torch.autograd.grad(compiled(x).square().sum(), list(model.parameters()), allow_unused=True)
        for a, b in zip(got, want, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.compiler.reset()


# The streams of hyper-connections are skips of their own: tests/blocks measures that form.
@pytest.mark.parametrize(("name", "options", "made"), [c for c in CASES if c[0] != "hyper-connections"])
def test_a_ledger_reads_it_exactly(name: str, options: dict[str, Any], made: Any) -> None:
    model, x = made()
    with treated(name, options, model, x):
        graph = sg.find(model, x)
        with sg.watch(model, graph, budget=None) as ledger:
            model(x).square().mean().backward()
        rows = ledger.measurements().skips
        assert {r.skip for r in rows} == {s.name for s in graph}
        # dL/dx = S + B: what the ledger splits must be whole again.
        assert all(abs(r.residual) < 1e-12 for r in rows)


def test_alpha_stands_where_the_formula_says() -> None:
    model, x = images()
    block = model.blocks[1]
    with treated("rezero", {"start": 0.25}, model, x):
        z = torch.randn(2, 4, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(block(z), torch.relu(z + 0.25 * block.branch(z)))


def test_rezero_starts_as_the_identity() -> None:
    model, x = images()
    with treated("rezero", {}, model, x):
        z = torch.rand(2, 4, 8, 8, dtype=torch.float64)
        assert torch.equal(model.blocks(z), z)


def test_layerscale_has_one_scale_a_channel_on_the_right_axis() -> None:
    model, x = images()
    with treated("layerscale", {"init_values": 0.5}, model, x):
        assert model.blocks[0].skipgrad_layerscale["0"].gamma.shape == (4,)
        with torch.no_grad():
            model.blocks[0].skipgrad_layerscale["0"].gamma.copy_(torch.arange(4.0))
        z = torch.rand(2, 4, 8, 8, dtype=torch.float64)
        scale = torch.arange(4.0, dtype=torch.float64).view(1, 4, 1, 1)
        torch.testing.assert_close(model.blocks[0](z), torch.relu(z + scale * model.blocks[0].branch(z)))


def test_skipinit_takes_the_norms_out_of_the_branches_only() -> None:
    model, x = images()
    with treated("skipinit", {"start": 1.0}, model, x):
        block, z = model.blocks[0], torch.randn(2, 4, 8, 8, dtype=torch.float64)
        with torch.no_grad():
            block.bn1.weight.fill_(2.0)
            block.bn2.bias.fill_(0.5)
        want = block.conv2(torch.relu(2 * block.conv1(z))) + 0.5
        torch.testing.assert_close(block(z), torch.relu(z + want))


def test_fixup_scales_the_weights_by_number_and_depth() -> None:
    model, x = images()
    weights = cases.state(model)
    with treated("fixup", {}, model, x):
        # L = 3 branches of m = 2 weights: the first × 3^(−1/2), the last 0
        torch.testing.assert_close(model.blocks[0].conv1.weight, weights["blocks.0.conv1.weight"] * 3**-0.5)
        assert not model.blocks[2].conv2.weight.any()
        assert not model.head.weight.any()


def test_deepnorm_weighs_the_shortcut_up_and_values_down() -> None:
    model, x = transformer()
    weights, layer = cases.state(model), model[1]
    with treated("deepnorm", {}, model, x):  # 2N = 4 adds
        torch.testing.assert_close(layer.v_proj.weight, weights["1.v_proj.weight"] * 16**-0.25)
        torch.testing.assert_close(layer.down.weight, weights["1.down.weight"] * 16**-0.25)
        assert torch.equal(layer.q_proj.weight, weights["1.q_proj.weight"])
        assert torch.equal(layer.k_proj.weight, weights["1.k_proj.weight"])
        z = torch.randn(3, 5, 8, dtype=torch.float64)
        attend = torch.softmax(layer.q_proj(z) @ layer.k_proj(z).transpose(-1, -2), -1) @ layer.v_proj(z)
        h = layer.norm1(4**0.25 * z + layer.out(attend))
        h = layer.norm2(4**0.25 * h + layer.down(torch.relu(layer.up(h))))
        torch.testing.assert_close(layer(z), h)


def test_pre_norm_moves_the_norms_and_puts_a_new_one_last() -> None:
    model, x = transformer(1)
    layer = model[1]
    norm1, norm2 = layer.norm1.forward, layer.norm2.forward
    with treated("pre-norm", {}, model, x):
        z = torch.randn(3, 5, 8, dtype=torch.float64)
        n = norm1(z)
        attend = torch.softmax(layer.q_proj(n) @ layer.k_proj(n).transpose(-1, -2), -1) @ layer.v_proj(n)
        h = z + layer.out(attend)
        h = h + layer.down(torch.relu(layer.up(norm2(h))))
        torch.testing.assert_close(layer(z), nn.functional.layer_norm(h, (8,)))
        assert all(not s.trunk for s in sg.find(model, x))


def test_stochastic_depth_keeps_the_mean_and_drops_as_often_as_it_says() -> None:
    model, x = images(Net(depth=1))
    block = model.blocks[0]
    with treated("stochastic-depth", {"survival_prob": 0.75}, model, x):
        z = torch.rand(400, 4, 2, 2, dtype=torch.float64) + 5  # relu passes all of it
        model.eval()
        branch = block(z) - z
        drop = block.skipgrad_stochastic_depth
        drop.train()
        torch.manual_seed(0)
        kept = ((block(z) - z).abs().amax((1, 2, 3)) > 1e-12).double()
        spread = (0.75 * 0.25 / 400) ** 0.5
        assert abs(float(kept.mean()) - 0.75) < 4 * spread
        torch.manual_seed(0)
        torch.testing.assert_close(block(z), z + branch * (kept / 0.75).view(-1, 1, 1, 1))


@pytest.mark.parametrize("growing", [False, True])
def test_a_dense_layer_is_dropped_for_all_that_read_it(growing: bool) -> None:
    model, x = dense(growing)
    with treated("stochastic-depth", {"survival_prob": 0.5, "linear": False}, model, x) as applied:
        assert len(applied.plan.reached) == 3
        assert not applied.skipped
        z = torch.randn(16, 3, 4, 4, dtype=torch.float64)
        for drop in (m for m in model.modules() if type(m).__name__ == "DropPath"):
            drop.train()
        out = model(z)
        want = model.stem(z)
        features = [want]
        for k, layer in enumerate(model.layers):
            got = out[:, 4 + 2 * k : 6 + 2 * k]
            kept = (got.abs().amax((1, 2, 3), keepdim=True) > 0).double()
            assert 0 < float(kept.mean()) < 1
            features.append(layer[2].forward(layer[1](layer[0](want))) * kept / 0.5)
            want = torch.cat(features, 1)
        torch.testing.assert_close(out, want)


def test_a_concat_of_tokens_is_left() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, self.layer(self.norm(x))], 1)

    model, x = Tokens(), torch.randn(2, 3, 4)
    with pytest.raises(RemedyRefused, match="not known to be one of channels"):
        sg.remedy("stochastic-depth").plan(sg.find(model, x))


def test_values_are_mixed_with_those_of_the_first() -> None:
    model, x = attention()
    with treated("value-residual", {"start": 0.25}, model, x):
        got = model(x)
    h, first = model[0](x), None
    for layer in model[1:4]:
        q, k, v = layer.qkv(layer.norm(h)).chunk(3, -1)
        first = v if first is None else first
        v = v if v is first else 0.75 * v + 0.25 * first
        h = h + layer.out(nn.functional.scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(got, model[4](h))


def test_values_of_another_shape_and_nets_without_attention_are_told() -> None:
    with pytest.raises(RemedyRefused, match="0 calls of scaled_dot_product_attention"):
        sg.remedy("value-residual").plan(sg.find(*images()))
    torch.manual_seed(0)
    model = nn.Sequential(cases.Attends(6), nn.Linear(6, 8), cases.Attends(8), cases.Attends(8), nn.Linear(8, 2))
    x = torch.randn(2, 7, 6)
    with pytest.raises(RemedyRefused, match="the first attention's"):
        sg.remedy("value-residual").plan(sg.find(model, x))
    with pytest.raises(BadInput, match="share"):
        sg.remedy("value-residual", start=2.0)


def test_long_skips_can_be_switched_off() -> None:
    model, x = unet()
    with treated("scalelong", {"factor": 0.0}, model, x):
        out = model(x)
        a, b = torch.relu(model.down1(x)), torch.relu(model.down2(torch.relu(model.down1(x))))
        c = nn.functional.interpolate(torch.relu(model.middle(b)), scale_factor=2.0)
        d = torch.relu(model.up2(torch.cat([0 * b, c], 1)))
        d = nn.functional.interpolate(d, scale_factor=2.0)
        torch.testing.assert_close(out, model.up1(torch.cat([0 * a, d], 1)))


def test_the_longest_skip_is_the_first() -> None:
    model, x = unet()
    plan = sg.remedy("scalelong", kappa=0.5).plan(sg.find(model, x))
    factors = {e.skip: e.what for e in plan.edits}
    assert factors == {"root#2": "shortcut through Factor(factor=1)", "root": "shortcut through Factor(factor=0.5)"}


def test_the_mean_of_the_streams_leaves_the_last_block() -> None:
    model, x = images(Net(depth=2))
    with treated("hyper-connections", {"num_residual_streams": 2}, model, x):
        first, second = (b.skipgrad_hyper_connections["0"] for b in model.blocks)
        with torch.no_grad():
            first.write.copy_(torch.tensor([1.0, 0.5]))
            second.read.copy_(torch.tensor([0.0, 1.0]))
            second.mix.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        z = torch.rand(2, 4, 8, 8, dtype=torch.float64)
        one, two = (type(b).__mro__[1].forward for b in model.blocks)
        d1 = one(model.blocks[0], z) - z
        h1, h2 = z + d1, z + 0.5 * d1
        d2 = two(model.blocks[1], h2) - h2
        torch.testing.assert_close(model.blocks(z), ((h2 + d2) + (h1 + d2)) / 2)


class Routes(nn.Module):
    """Makes its add in one of two routes only."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.skipping = nn.Linear(4, 4), False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(x) if self.skipping else x + self.f(x)


def test_a_forward_that_does_not_make_the_add_says_so() -> None:
    model, x = nn.Sequential(Routes(), nn.Linear(4, 2)), torch.randn(2, 4)
    applied = treated("rezero", {}, model, x)
    model[0].skipping = True
    with pytest.raises(RuntimeError, match=r"0 made 0 calls of add, and number 0 was to be edited"):
        model(x)
    applied.undo()
    model(x)


class Shared(nn.Module):
    """One block, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = cases.Block(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = self.block(x)
        return self.head(x)


def test_a_block_that_runs_several_times_has_one_scale() -> None:
    model, x = Shared(), torch.randn(2, 4)
    with treated("rezero", {}, model, x) as applied:
        assert len(applied.plan.reached) == 3
        assert len(applied.plan.edits) == 1
        assert torch.equal(model(x), model.head(x))


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.randn(4, 4)), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.addmm(x, torch.relu(x), self.weight))


def test_a_fused_add_is_left_with_the_reason() -> None:
    model, x = Fused(), torch.randn(3, 4)
    graph = sg.find(model, x)
    assert len(graph) == 1
    with pytest.raises(RemedyRefused, match="inside a fused call"):
        sg.remedy("rezero").plan(graph)


def test_a_graph_read_from_a_file_has_no_trace() -> None:
    model, x = images()
    graph = sg.SkipGraph.from_json(sg.find(model, x).to_json())
    with pytest.raises(RemedyRefused, match="no trace"):
        sg.remedy("rezero").plan(graph)


def test_a_wrapped_model_is_refused_with_when_to_apply_it() -> None:
    model, x = images()
    plan = sg.remedy("rezero").plan(sg.find(model, x))
    with pytest.raises(RemedyRefused, match="wrap the model afterwards"):
        plan.apply(nn.DataParallel(model))


def test_pre_norm_on_a_pre_norm_net_says_so() -> None:
    _, _, graph = cases.residual()
    for name in ("pre-norm", "deepnorm"):
        with pytest.raises(RemedyRefused, match="no norm follows its add"):
            sg.remedy(name).plan(graph)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("stochastic-depth", {"survival_prob": 0.0}, r"survival_prob.*\n.*received: 0"),
        ("stochastic-depth", {"survival_prob": 1.5}, r"received: 1.5"),
        ("scalelong", {"kappa": 2.0}, r"kappa"),
        ("hyper-connections", {"num_residual_streams": 0}, r"num_residual_streams"),
        ("branch-scale", {"scale": "1/l"}, r"1/sqrt"),
        ("layerscale", {"init_value": 1.0}, r"init_values"),
        ("zero-init", {"start": 1.0}, r"no options"),
    ],
)
def test_a_wrong_option_is_answered(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        sg.remedy(name, **options)


def test_two_retrofits_on_one_net_are_undone_in_any_order() -> None:
    model, x = images()
    out, before = model(x), cases.state(model)
    one = treated("rezero", {"start": 1.0}, model, x)
    two = treated("stochastic-depth", {}, model, x)
    torch.testing.assert_close(model(x), out)
    one.undo()
    assert two.verify(Evidence(x)).ok
    two.undo()
    assert cases.same(before, cases.state(model))
    assert type(model.blocks[0]) is InPlace


def test_attach_gives_the_scales_to_an_optimizer_without_decay() -> None:
    model, x = images()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    applied = treated("rezero", {}, model, x)
    applied.attach(optimizer)
    assert optimizer.param_groups[-1]["weight_decay"] == 0
    assert len(optimizer.param_groups[-1]["params"]) == 3
    model.train()(x).square().mean().backward()
    optimizer.step()
    assert all(bool(b.skipgrad_rezero["0"].alpha.any()) for b in model.blocks)
    applied.undo()
    assert len(optimizer.param_groups) == 1
