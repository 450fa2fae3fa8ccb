"""Forms against implementations elsewhere, with their weights copied over; and what only some forms have."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from skipgrad.blocks import forms

DOCS = Path(__file__).parents[2] / "docs"


def branch(width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


def test_layerscale_is_timms() -> None:
    timm = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    f, x = branch(), torch.randn(2, 3, 6)
    other = timm.LayerScale(6, init_values=0.3)
    nn.init.normal_(other.gamma)
    mine = forms.LayerScale(f, 6)
    mine.gamma.data.copy_(other.gamma)
    assert torch.equal(mine(x), x + other(f(x)))


def outputs(draw, many: int) -> Tensor:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    with torch.no_grad():
        return torch.stack([draw() for _ in range(many)])


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("mode", ["row", "batch"])
def test_stochastic_depth_has_their_mean_and_variance(library: str, mode: str) -> None:
    """Over 4000 draws, each value's mean and variance are theirs to five standard errors of the difference."""
    p, many = 0.7, 4000
    torch.manual_seed(0)
    f, x = branch(), torch.randn(5, 6)
    mine = forms.StochasticDepth(f, survival_prob=p, mode=mode)  # type: ignore[arg-type]
    if library == "timm":
        if mode == "batch":
            pytest.skip("timm's DropPath draws for each sample")
        drop = pytest.importorskip("timm.layers").DropPath(1 - p)
    else:
        drop = pytest.importorskip("torchvision.ops").StochasticDepth(1 - p, mode)
    a, b = outputs(lambda: mine(x), many), outputs(lambda: x + drop(f(x)), many)
    size = f(x).detach().abs() / p  # a value is x or x + size: its moments are those of a coin
    deviation = size * math.sqrt(p * (1 - p))
    assert ((a.mean(0) - b.mean(0)).abs() <= 5 * deviation * math.sqrt(2 / many)).all()
    fourth = p * (1 - p) * (1 - 3 * p * (1 - p)) - (p * (1 - p)) ** 2  # Var of (coin − p)²
    assert ((a.var(0) - b.var(0)).abs() <= 5 * size**2 * math.sqrt(2 * fourth / many) + 1e-9).all()
    assert torch.equal(mine.eval()(x), x + drop.eval()(f(x)))


def test_dropped_samples_are_not_computed() -> None:
    seen: list[int] = []
    f = branch()
    f.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    form, x = forms.StochasticDepth(f, survival_prob=0.5), torch.randn(64, 6)
    torch.manual_seed(0)
    kept = []
    for _ in range(20):
        y = form(x)
        kept.append(int((y != x).any(1).sum()))
    assert seen == kept
    assert 400 < sum(seen) < 900  # 640 of 1280 on average, 18 its deviation
    every = forms.StochasticDepth(f, survival_prob=0.01, mode="batch")
    seen.clear()
    assert torch.equal(every(x), x)
    assert seen == []


@pytest.mark.parametrize(("merge", "mode"), [("concat", "cat"), ("add", "add")])
def test_long_skips_are_monais(merge: str, mode: str) -> None:
    layers = pytest.importorskip("monai.networks.layers")
    torch.manual_seed(0)
    inner, x = nn.Conv2d(4, 4, 3, 1, 1), torch.randn(2, 4, 8, 8)
    assert torch.equal(forms.LongSkip(inner, merge)(x), layers.SkipConnection(inner, mode=mode)(x))  # type: ignore[arg-type]
    assert torch.equal(forms.Residual(inner)(x), layers.SkipConnection(inner, mode="add")(x))


def test_a_dense_block_is_torchvisions() -> None:
    densenet = pytest.importorskip("torchvision.models.densenet")
    torch.manual_seed(0)
    theirs = densenet._DenseBlock(3, 8, bn_size=2, growth_rate=4, drop_rate=0.0)
    mine = forms.Dense(
        nn.Sequential(
            nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 8, 1, bias=False),
            nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, 1, 1, bias=False),
        )
        for c in (8, 12, 16)
    )  # fmt: skip
    values = list(theirs.state_dict().values())
    mine.load_state_dict(dict(zip(mine.state_dict(), values, strict=True)))
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    y, z = mine(x), theirs(x)
    torch.testing.assert_close(y, z)
    a = torch.autograd.grad(y.pow(2).sum(), [x, *mine.parameters()])
    for one, other in zip(a, torch.autograd.grad(z.pow(2).sum(), [x, *theirs.parameters()]), strict=True):
        torch.testing.assert_close(one, other)


def test_a_pyramid_is_torchvisions() -> None:
    ops = pytest.importorskip("torchvision.ops")
    torch.manual_seed(0)
    theirs = ops.FeaturePyramidNetwork([4, 6, 8], 5)
    mine = forms.FPN([4, 6, 8], 5)
    for k in range(3):
        mine.lateral[k].load_state_dict(theirs.inner_blocks[k][0].state_dict())
        mine.smooth[k].load_state_dict(theirs.layer_blocks[k][0].state_dict())
    levels = [torch.randn(2, c, n, n) for c, n in ((4, 13), (6, 7), (8, 4))]  # odd sizes too
    for a, b in zip(mine(levels), theirs(dict(zip("abc", levels, strict=True))).values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_dynamic_hyper_connections_are_those_of_the_package(streams: int) -> None:
    package = pytest.importorskip("hyper_connections")
    torch.manual_seed(0)
    branches = [branch(), branch()]
    mine = forms.HyperConnections(branches, 6, streams, dynamic=True)
    init, expand, reduce = package.get_init_and_expand_reduce_stream_functions(streams, disable=False)
    theirs = [init(dim=6, branch=f, layer_index=k) for k, f in enumerate(branches)]
    with torch.no_grad():
        for layer, other in zip(mine.layers, theirs, strict=True):
            for p in other.parameters():
                p.add_(0.3 * torch.randn_like(p))
            other.norm.gamma.zero_()
            layer.pre.copy_(other.static_alpha[:, 0])
            layer.res.copy_(other.static_alpha[:, 1:].T)
            layer.post.copy_(other.static_beta)
            layer.project.weight[:streams].copy_(other.dynamic_alpha_fn[:, 1:].T)
            layer.project.weight[streams].copy_(other.dynamic_alpha_fn[:, 0])
            layer.project.weight[streams + 1].copy_(other.dynamic_beta_fn)
            layer.scale.copy_(torch.stack([other.dynamic_alpha_scale, other.dynamic_beta_scale]))
    x = torch.randn(2, 3, 6)
    y = expand(x)
    for other in theirs:
        y = other(y)
    torch.testing.assert_close(streams * mine(x), reduce(y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", [forms.HyperConnections, forms.ManifoldHyperConnections])
def test_any_number_of_streams_starts_as_the_residual_net(kind: type, n: int, dynamic: bool) -> None:
    torch.manual_seed(0)
    branches = [branch() for _ in range(5)]
    x = wanted = torch.randn(2, 3, 6, dtype=torch.float64)
    net = kind(branches, 6, num_residual_streams=n, dynamic=dynamic).double()
    for f in branches:
        wanted = wanted + f(wanted)
    exact = kind is forms.HyperConnections
    torch.testing.assert_close(net(x), wanted, rtol=1e-10 if exact else 0.1, atol=1e-10 if exact else 0.02)


def test_sinkhorn_says_how_far_it_is_from_doubly_stochastic() -> None:
    torch.manual_seed(0)
    logits = 6 * torch.randn(4, 4, dtype=torch.float64)
    far = [forms.sinkhorn_residual(forms.sinkhorn(logits, k)) for k in (1, 5, 20, 2000)]
    assert far == sorted(far, reverse=True)
    assert far[2] > 1e-6  # twenty iterations are not exact
    assert far[3] < 1e-9
    columns = forms.sinkhorn(logits, 20).sum(-2)
    torch.testing.assert_close(columns, torch.ones_like(columns))
    net = forms.ManifoldHyperConnections([branch(), branch()], 6, 4)
    net.layers[1].res.data.copy_(logits)
    residuals = net.residuals()
    assert residuals[0] < 1e-3
    assert residuals[1] == pytest.approx(far[2], rel=1e-4)  # the logits are float32 there
    mean = torch.randn(4, 5)
    mixed = net.layers[0].mixing() @ mean
    torch.testing.assert_close(mixed.mean(0), mean.mean(0))  # the mean over the streams passes


def test_the_learned_scale_of_a_long_skip_is_a_gate_on_channels() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.Tanh())  # not linear: the other path is no shortcut either
    form = forms.ScaleLong(inner, "learned", channels=8)
    x = torch.randn(2, 8, 5, 5)
    scale = form.net(x.mean((2, 3)))[:, :, None, None]
    torch.testing.assert_close(form(x)[:, :8], x * scale)
    tokens = forms.ScaleLong(nn.Linear(8, 8), "learned", channels=8, dim=-1, merge="add")
    z = torch.randn(2, 3, 8)
    torch.testing.assert_close(tokens(z), z * tokens.net(z.mean(1))[:, None] + tokens.inner(z))
    assert sg.find(nn.Sequential(nn.Conv2d(8, 8, 1), form), x).count() == 0
    for index, mode, factor in ((1, "constant", 1.0), (3, "constant", 0.49), (3, "sqrt", 0.5**0.5)):
        got = forms.ScaleLong(nn.Conv2d(8, 8, 1), mode, index=index)(x)[:, :8]  # type: ignore[arg-type]
        torch.testing.assert_close(got, factor * x)


def test_a_projection_for_features_and_option_a() -> None:
    x = torch.randn(3, 4)
    padded = forms.Projection(nn.Linear(4, 6), 4, 6, option="A", layout="features")
    assert torch.equal(padded(x), torch.cat([x, torch.zeros(3, 2)], 1) + padded.branch(x))
    assert forms.Projection(nn.Linear(4, 6), 4, 6, layout="features")(x).shape == (3, 6)


def test_admin_sets_omega_from_the_variances_before() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(forms.Admin(branch(), 6, nn.LayerNorm(6)) for _ in range(3)))
    outs: list[float] = []
    for block in net:
        block.branch.register_forward_hook(lambda m, args, out: outs.append(float(out.var(correction=0))))
    omegas = forms.profile(net, torch.randn(5, 6))
    assert omegas == pytest.approx([1.0, outs[0] ** 0.5, (outs[0] + outs[1]) ** 0.5], rel=1e-6)
    assert [float(b.omega[0].detach()) for b in net] == pytest.approx(omegas)


def test_deepnorm_leaves_queries_and_keys_as_they_are() -> None:
    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict({n: nn.Linear(4, 4) for n in ("q_proj", "k_proj", "v_proj", "out_proj")})

    before, after = fresh(), forms.DeepNorm(fresh(), nn.LayerNorm(4), layers=2).branch
    beta = 16**-0.25
    for name, factor in (("q_proj", 1.0), ("k_proj", 1.0), ("v_proj", beta), ("out_proj", beta)):
        torch.testing.assert_close(after[name].weight, factor * before[name].weight)
    torch.manual_seed(0)
    packed = nn.MultiheadAttention(4, 2)
    torch.manual_seed(0)
    scaled = forms.DeepNorm(nn.MultiheadAttention(4, 2), nn.LayerNorm(4), layers=2).branch
    torch.testing.assert_close(scaled.in_proj_weight[:8], packed.in_proj_weight[:8])
    torch.testing.assert_close(scaled.in_proj_weight[8:], beta * packed.in_proj_weight[8:])
    torch.testing.assert_close(scaled.out_proj.weight, beta * packed.out_proj.weight)


def test_fixup_scales_what_the_paper_says() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    weights = [m.weight.detach().clone() for m in plain if isinstance(m, nn.Linear)]
    form = forms.Fixup(plain, num_blocks=16)
    scaled = [m.weight for m in form.branch.modules() if isinstance(m, nn.Linear)]
    for k in (0, 1):
        torch.testing.assert_close(scaled[k], weights[k] * 16**-0.25)
    assert scaled[2].abs().sum() == 0
    names = [n for n, p in form.named_parameters() if p.shape == (1,)]
    assert len(names) == 1 + 4 + 2  # before F, before each of its other children, the scale and the bias behind


def test_a_dilated_denseformer_averages_every_second_output() -> None:
    net = forms.DenseFormer([nn.Tanh() for _ in range(4)], dilation=2, period=2)
    assert [len(a) for a in net.alphas] == [1, 2, 2, 3]
    with torch.no_grad():
        net.alphas[3].copy_(torch.tensor([0.5, 0.25, 1.0]))
    x = torch.randn(3)
    x2 = x.tanh().tanh()
    torch.testing.assert_close(net(x), 0.5 * x + 0.25 * x2 + x2.tanh().tanh())
