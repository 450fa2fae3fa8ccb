"""A convolution whose kernel is computed from a learned one and an activation counts as one with a learned kernel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import skipgrad as sg


class Modulated(nn.Module):
    """StyleGAN2's convolution: each image's style scales its kernel, channel by channel; all images in one call."""

    def __init__(self, channels: int, out: int, kernel: int, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels, kernel, kernel))
        self.style = nn.Linear(5, channels)
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        many, channels, *sizes = x.shape
        out, _, kernel, _ = self.weight.shape
        weight = (self.weight * 0.1).unsqueeze(0) * self.style(w).view(many, 1, channels, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        x = x.reshape(1, many * channels, *sizes)
        y = F.conv2d(x, weight.view(many * out, channels, kernel, kernel), padding=kernel // 2, groups=many)
        return y.view(many, out, *sizes)


class Generator(nn.Module):
    """Sums up, from resolution to resolution, what each adds to the picture (Karras et al. 2020, "output skips")."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Modulated(8, 8, 3) for _ in range(3))
        self.pictures = nn.ModuleList(Modulated(8, 3, 1, demodulate=False) for _ in range(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        picture = None
        for conv, to_picture in zip(self.convs, self.pictures, strict=True):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2), w), 0.2)
            more = to_picture(x, w)
            picture = more if picture is None else more + F.interpolate(picture, scale_factor=2)
        assert picture is not None
        return picture


class Block(nn.Module):
    """A residual block of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Modulated(8, 8, 3), Modulated(8, 8, 3)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = x * 2.0
        return x + self.two(F.relu(self.one(x, w)), w)


class Correlated(nn.Module):
    """Slides what it made of one picture over another: the kernel is no weight, whatever learned scale it got."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1)) if scaled else None

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        x = x * 2.0
        kernel = F.relu(self.norm(self.conv(z)))
        if self.scale is not None:
            kernel = kernel * self.scale
        return x + F.conv2d(x, kernel[:1].transpose(0, 1), padding=1, groups=8)


X, W = torch.randn(2, 8, 4, 4), torch.randn(2, 5)


def test_a_skip_generator_has_a_skip_a_resolution() -> None:
    graph = sg.find(Generator(), X, W)
    assert [(s.name, s.kind, s.shortcut) for s in graph.skips] == [
        ("root", "add", "projection"),
        ("root#2", "add", "projection"),
    ]
    layers = [layer.name for layer in graph.layers if not layer.name.endswith(".style")]
    assert layers == [f"{part}.{k}" for k in range(3) for part in ("convs", "pictures")]


def test_a_block_of_modulated_convolutions_is_a_residual_block() -> None:
    graph = sg.find(Block(), X, W)
    assert [(s.kind, s.shortcut, s.span) for s in graph.skips] == [("add", "identity", 2)]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_kernel_that_is_an_activation_is_no_weight(scaled: bool) -> None:
    assert not sg.find(Correlated(scaled), torch.randn(2, 8, 6, 6), torch.randn(2, 8, 5, 5)).skips


def test_its_figures_are_autograds() -> None:
    torch.manual_seed(0)
    net = Block().double()
    x, w = X.double(), W.double()
    fork = (x * 2.0).requires_grad_()
    branch = net.two(F.relu(net.one(fork, w)), w)
    y = fork + branch
    grad = torch.autograd.grad(y.square().sum(), y, retain_graph=True)[0]
    expected = torch.autograd.grad(branch, fork, grad)[0]
    with sg.watch(net, budget=None) as ledger:
        net(x.clone().requires_grad_(), w).square().sum().backward()
    row = ledger.rows()[0]
    assert row.skip_norm == pytest.approx(float(grad.norm()), rel=1e-10)
    assert row.branch_norm == pytest.approx(float(expected.norm()), rel=1e-10)
    assert {r.layer for r in ledger.layers()} >= {layer.name for layer in sg.find(net, x, w).layers}
