"""Each check fires on a real net that was built to have the fault, and keeps silent on healthy ones."""

from __future__ import annotations

import contextlib
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import skipgrad as sg
from skipgrad.core import MeasureError

STEPS = 8


class Plain(nn.Module):
    """Linear layers with an activation, and nothing else; ``gain`` on He's init."""

    def __init__(self, depth: int, gain: float, act=torch.relu, width: int = 64):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 4)
        self.act = act
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=gain * math.sqrt(2 / width))
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        return self.head(x)


class Block(nn.Module):
    """x + scale · F(x), F pre-normed or not."""

    def __init__(self, width: int, scale: float = 1.0, norm: bool = True, gain: float = 1.0):
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up, self.down, self.scale = nn.Linear(width, width), nn.Linear(width, width), scale
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=gain / math.sqrt(width))
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return x + self.scale * self.down(torch.relu(self.up(self.norm(x))))


class Residual(nn.Module):
    def __init__(self, *blocks: nn.Module, width: int = 64):
        super().__init__()
        self.stem, self.blocks, self.head = nn.Linear(64, width), nn.Sequential(*blocks), nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


class PreActBlock(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int = 1):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(outer)
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.short = nn.Conv2d(inner, outer, 1, stride, bias=False) if inner != outer else nn.Identity()

    def forward(self, x):
        return self.short(x) + self.conv2(torch.relu(self.bn2(self.conv1(torch.relu(self.bn1(x))))))


class PreActResNet(nn.Module):
    def __init__(self, per_stage: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 1, 1, bias=False)
        widths = [8, 8, 16, 32]
        self.stages = nn.Sequential(
            *[
                PreActBlock(widths[i] if j == 0 else widths[i + 1], widths[i + 1], 2 if j == 0 and i else 1)
                for i in range(3)
                for j in range(per_stage)
            ]
        )
        self.bn, self.head = nn.BatchNorm2d(32), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(torch.relu(self.bn(self.stages(self.stem(x)))).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True))


class Transformer(nn.Module):
    def __init__(self, depth: int, post: bool = False, width: int = 32):
        super().__init__()
        self.embed = nn.Embedding(32, width)
        self.attns = nn.ModuleList(Attention(width) for _ in range(depth))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.last, self.head, self.post = nn.LayerNorm(width), nn.Linear(width, 32), post

    def forward(self, ids):
        x = self.embed(ids)
        for i, (attn, mlp) in enumerate(zip(self.attns, self.mlps, strict=True)):
            for j, f in enumerate((attn, mlp)):
                norm = self.norms[2 * i + j]
                x = norm(x + f(x)) if self.post else x + f(norm(x))
        return self.head(x if self.post else self.last(x))


class UNet(nn.Module):
    def __init__(self, levels: int = 3, scale: float | None = None):
        super().__init__()
        widths = [8 * 2**i for i in range(levels + 1)]
        self.stem = nn.Conv2d(1, 8, 3, 1, 1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.fuse = nn.ModuleList(nn.Conv2d(2 * a, a, 3, 1, 1) for a in widths[:-1])
        self.head, self.scale = nn.Conv2d(8, 1, 1), scale

    def forward(self, x):
        x = torch.relu(self.stem(x))
        kept = []
        for down in self.down:
            kept.append(x)
            x = torch.relu(down(x))
        for i in reversed(range(len(self.down))):
            short = kept[i] if self.scale is None else self.scale * kept[i]
            x = torch.relu(self.fuse[i](torch.cat([short, self.up[i](x)], 1)))
        return self.head(x)


def vectors(batch: int = 32):
    return torch.randn(batch, 64), torch.randint(0, 4, (batch,))


def images(batch: int = 16):
    return torch.randn(batch, 1, 16, 16), torch.randint(0, 4, (batch,))


def tokens(batch: int = 8):
    ids = torch.randint(0, 32, (batch, 17))
    return ids[:, :-1], ids[:, 1:]


def pictures(batch: int = 8):
    x = torch.randn(batch, 1, 16, 16)
    return x, torch.tanh(F.avg_pool2d(x, 3, 1, 1))


def entropy(out, y):
    return F.cross_entropy(out.flatten(0, -2), y.flatten())


def measure_paths(ledger, model, graph, inputs, y, loss):
    """The path spectrum, where there is one."""
    if graph.count("add"):
        with contextlib.suppress(MeasureError):
            ledger.spectrum(sg.path_spectrum(model, graph, inputs, lambda out: loss(out, y)))


def diagnosed(model, data=vectors, loss=entropy, steps: int = STEPS, optimizer=None, rate: float = 1e-2):
    """Findings of a few real steps, by code."""
    x, y = data()
    optimizer = optimizer(model.parameters()) if optimizer else torch.optim.SGD(model.parameters(), lr=rate)
    graph = sg.find(model, x)
    first = (x,), y
    with sg.watch(model, graph, optimizer=optimizer, budget=None) as ledger:
        measure_paths(ledger, model, graph, *first, loss)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            x, y = data()
        measure_paths(ledger, model, graph, *first, loss)
    findings = {f.code: f for f in sg.diagnose(ledger)}
    for f in findings.values():
        print(f.code, f.state, f.severity, f.evidence, f.where[:2])
    return findings


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def alarms(findings) -> set[str]:
    return {c for c, f in findings.items() if f.state == "found" and f.severity != "info"}


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def test_healthy_pre_activation_resnet():
    findings = diagnosed(PreActResNet(), images, rate=0.05)
    assert alarms(findings) == set()
    assert findings["SG011"].state == "passed"


def test_healthy_pre_ln():
    findings = diagnosed(Transformer(12), tokens, optimizer=adam)
    assert alarms(findings) == set()
    assert findings["SG009"].state == "passed"
    assert findings["SG006"].state == "passed"
    assert findings["SG011"].state == "passed"


def test_healthy_plain_net_of_few_layers():
    findings = diagnosed(Plain(5, 1.0), rate=0.05)
    assert alarms(findings) == set()
    assert findings["SG001"].state == findings["SG002"].state == "passed"


def test_sg001_deep_sigmoid_net():
    findings = diagnosed(Plain(20, 1.0, torch.sigmoid))
    assert findings["SG001"].state == "found"
    assert findings["SG001"].severity == "error"
    assert "layers.0" in findings["SG001"].where


def test_sg001_small_init():
    assert diagnosed(Plain(24, 0.6))["SG001"].state == "found"


def test_sg002_large_init():
    findings = diagnosed(Plain(24, 1.6), rate=1e-12)
    assert findings["SG002"].state == "found"
    assert findings["SG001"].state == "passed"


def test_sg002_plain_56_with_batch_norm():
    def conv(inner):
        return [nn.Conv2d(inner, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]

    torch.manual_seed(1)
    body = [m for i in range(55) for m in conv(8 if i else 1)]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    findings = diagnosed(model, lambda: tuple(t[:16] for t in images()), steps=3)
    assert findings["SG002"].state == "found"
    assert findings["SG002"].evidence["first_to_last_at_start"] > 500


def test_sg003_vanished_gradient_stalls_the_first_layers():
    findings = diagnosed(Plain(20, 1.0, torch.sigmoid))
    assert findings["SG003"].state == "found"
    assert "layers.0" in findings["SG003"].where
    assert "head" not in findings["SG003"].where


def test_sg003_pure_bfloat16():
    model = Residual(*[Block(64, 0.3) for _ in range(3)]).bfloat16()

    def data():
        x, y = vectors()
        return x.bfloat16(), y

    findings = diagnosed(model, data, rate=1e-3)
    assert findings["SG003"].state == "found"
    assert findings["SG003"].evidence["dtype"] == "bfloat16"


def test_sg004_plain_net():
    findings = diagnosed(Plain(20, 1.0))
    assert findings["SG004"].state == "found"
    assert findings["SG004"].evidence["longest_stretch"] == 21


def test_sg005_branches_scaled_to_nothing():
    findings = diagnosed(Residual(*[Block(64, 1e-4) for _ in range(6)]))
    assert findings["SG005"].state == "found"
    assert findings["SG005"].evidence["idle_branches"] == 6


def test_sg005_zero_init_is_silent():
    model = Residual(*[Block(64) for _ in range(6)])
    for block in model.blocks:
        nn.init.zeros_(block.down.weight)
    findings = diagnosed(model, rate=0.05)
    assert findings["SG005"].state == "passed"
    assert alarms(findings) == set()


def test_sg006_branches_scaled_up():
    findings = diagnosed(Residual(*[Block(64, 30.0) for _ in range(6)]), rate=1e-6)
    assert findings["SG006"].state == "found"
    assert findings["SG006"].severity in ("warning", "error")


def test_sg007_post_ln():
    findings = diagnosed(Transformer(6, post=True), tokens, optimizer=adam)
    assert findings["SG007"].state == "found"
    assert findings["SG007"].severity == "info"  # what it costs this run is not known
    assert "norm_gain" in findings["SG007"].evidence


def test_sg007_scaled_shortcuts():
    class Scaled(Block):
        def forward(self, x):
            return 0.5 * x + self.down(torch.relu(self.up(self.norm(x))))

    findings = diagnosed(Residual(*[Scaled(64) for _ in range(6)]))
    assert findings["SG007"].severity == "warning"
    assert findings["SG007"].evidence["shortcut_product"] == pytest.approx(0.5**6, rel=1e-3)


def test_sg007_unneeded_projections():
    class Projected(Block):
        def __init__(self, width):
            super().__init__(width)
            self.short = nn.Linear(width, width)

        def forward(self, x):
            return self.short(x) + self.down(torch.relu(self.up(self.norm(x))))

    findings = diagnosed(Residual(*[Projected(64) for _ in range(4)]))
    assert findings["SG007"].evidence["unneeded_projections"] == 4
    assert findings["SG007"].severity == "warning"


def test_sg008_u_net():
    findings = diagnosed(UNet(), pictures, F.mse_loss, rate=0.05)
    assert findings["SG008"].state == "passed"  # 108×, and stock U-Nets that train well stand at 4 to 140
    assert findings["SG008"].evidence["nested_long_skips"] == 3


def test_sg009_no_norm_and_he_init():
    findings = diagnosed(Residual(*[Block(64, norm=False, gain=math.sqrt(2)) for _ in range(16)]), rate=1e-8)
    assert findings["SG009"].state == "found"
    # He's init doubles the second moment in F (the ReLU lies between), so x grows by √(1 + 2) per block.
    assert findings["SG009"].evidence["growth_per_block"] == pytest.approx(math.sqrt(3), rel=0.1)


def test_sg010_rate_out_of_range():
    findings = diagnosed(Residual(*[Block(64, norm=False) for _ in range(4)]), rate=1e30)
    assert findings["SG010"].state == "found"
    assert findings["SG010"].severity == "error"


def test_sg010_logarithm_of_zero():
    def loss(out, y):
        return entropy(out, y) + (out * 0).sum().log()

    findings = diagnosed(Residual(Block(64)), loss=loss)
    assert findings["SG010"].state == "found"
    assert findings["SG010"].evidence["first_step"] == 0


def test_sg011_long_paths_of_branches_without_a_norm():
    # Weights of twice He's size, so that every branch outweighs its skip many times over.
    findings = diagnosed(Residual(*[Block(64, norm=False, gain=2.0) for _ in range(12)]), rate=1e-9)
    assert (findings["SG011"].state, findings["SG011"].severity) == ("found", "warning")
    assert findings["SG011"].evidence["mean_length"] > 9
    assert findings["SG011"].where == ("blocks.0",)


def test_sg011_the_same_net_with_norms_is_silent():
    findings = diagnosed(Residual(*[Block(64, gain=2.0) for _ in range(12)]), rate=1e-3)
    assert findings["SG011"].state == "passed"


def test_sg011_branches_scaled_to_nothing():
    findings = diagnosed(Residual(*[Block(64, 0.01) for _ in range(12)]))
    assert (findings["SG011"].state, findings["SG011"].severity) == ("found", "warning")
    assert findings["SG011"].evidence["share_past_all"] > 0.99


def test_sg011_zero_init_is_silent():
    model = Residual(*[Block(64) for _ in range(12)])
    for block in model.blocks:
        nn.init.zeros_(block.down.weight)
    findings = diagnosed(model, rate=0.05)
    assert findings["SG011"].state == "passed"
    assert findings["SG011"].evidence["mean_length_at_start"] == 0


class Against(nn.Module):
    """x + F(x), F a linear map to −x/2: gradients through and past the branch are opposed."""

    def __init__(self, width: int):
        super().__init__()
        self.f = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            nn.init.eye_(self.f.weight).mul_(-0.5)

    def forward(self, x):
        return x + self.f(x)


def test_sg011_paths_that_cancel():
    # c_k = C(8, k)·(−1/2)^k·g₀ and g = g₀/2^8: the norms add up to 1.5^8 / 0.5^8 of it, the signed mean is −8.
    findings = diagnosed(Residual(*[Against(64) for _ in range(8)]), rate=1e-9)
    assert (findings["SG011"].state, findings["SG011"].severity) == ("found", "info")
    assert findings["SG011"].evidence["cancellation"] == pytest.approx(3**8, rel=1e-2)
    assert findings["SG011"].evidence["mean_length"] == pytest.approx(-8, rel=1e-2)


def test_sg011_cancelling_beyond_what_float32_can_tell():
    assert diagnosed(Residual(*[Against(64) for _ in range(14)]), rate=1e-9)["SG011"].state == "skipped"
