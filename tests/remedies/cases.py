"""Small nets, a brute-force measurement and made-up ledgers that the tests of the remedies share."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import Measurements, Skip, SkipGraph, SkipRow
from skipgrad.ledger.kept import News


class Block(nn.Module):
    """y = x + scale · F(x)."""

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        with torch.no_grad():
            self.f[2].weight.mul_(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.f(x)


class Residual(nn.Module):
    """A stem, blocks of very different branch scales, and a head."""

    def __init__(self, depth: int = 4, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Linear(5, width)
        self.blocks = nn.ModuleList(Block(width, 3.0 / (i + 1)) for i in range(depth))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Plain(nn.Module):
    """A plain convolutional net with two places for a skip, one of them across a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12)
        self.conv4, self.bn4 = nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for i in range(1, 5):
            x = torch.relu_(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.head(x.mean((2, 3)))


class PostNormBlock(nn.Module):
    """LN(x + F(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.f(x))


class PostNorm(nn.Module):
    """A stem, blocks with a norm behind the add, and a head."""

    def __init__(self, depth: int = 3, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Linear(5, width)
        self.blocks = nn.ModuleList(PostNormBlock(width) for _ in range(depth))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class UNet(nn.Module):
    """Two levels, joined by concatenation."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.up2, self.up1 = nn.Conv2d(2 * width, width, 3, padding=1), nn.Conv2d(2 * width, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.down1(x))
        b = torch.relu(self.down2(a))
        c = torch.relu(self.middle(b))
        c = nn.functional.interpolate(c, scale_factor=2.0)
        d = torch.relu(self.up2(torch.cat([b, c], 1)))
        d = nn.functional.interpolate(d, scale_factor=2.0)
        return self.up1(torch.cat([a, d], 1))


class Attends(nn.Module):
    """A pre-norm layer with the attention that torch has."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))


def attention(seed: int = 0) -> tuple[nn.Module, torch.Tensor, SkipGraph]:
    torch.manual_seed(seed)
    model, x = nn.Sequential(nn.Linear(5, 6), *(Attends() for _ in range(3)), nn.Linear(6, 2)), torch.randn(4, 7, 5)
    return model, x, sg.find(model, x)


def post_norm(seed: int = 0) -> tuple[PostNorm, torch.Tensor, SkipGraph]:
    torch.manual_seed(seed)
    model, x = PostNorm(), torch.randn(6, 5)
    return model, x, sg.find(model, x)


def unet(seed: int = 0) -> tuple[UNet, torch.Tensor, SkipGraph]:
    torch.manual_seed(seed)
    model, x = UNet(), torch.randn(2, 3, 8, 8)
    return model, x, sg.find(model, x)


def residual(depth: int = 4, seed: int = 0) -> tuple[Residual, torch.Tensor, SkipGraph]:
    torch.manual_seed(seed)
    model, x = Residual(depth).double(), torch.randn(6, 5, dtype=torch.float64)
    return model, x, sg.find(model, x)


def idle(depth: int = 4, seed: int = 0) -> tuple[Residual, torch.Tensor, SkipGraph]:
    """Whose second block does next to nothing."""
    model, x, graph = residual(depth, seed)
    with torch.no_grad():
        for p in model.blocks[1].f[2].parameters():
            p.mul_(1e-4)
    return model, x, graph


def nine(seed: int = 0) -> tuple[Residual, torch.Tensor, SkipGraph]:
    """Of nine blocks, eight of which can be left out."""
    return residual(9, seed)


def plain(seed: int = 0) -> tuple[Plain, torch.Tensor, SkipGraph]:
    torch.manual_seed(seed)
    model, x = Plain(), torch.randn(4, 3, 8, 8)
    return model, x, sg.find(model, x)


def row(skip: str, skip_norm: float, branch_norm: float, *, step: int = 0, micro: int = 0, **kw: float) -> SkipRow:
    total = (skip_norm**2 + branch_norm**2) ** 0.5
    values = {"x_rms": 1.0, "branch_rms": 1.0, "residual": 0.0} | kw
    return SkipRow(step, micro, skip, skip_norm, branch_norm, total, skip_norm, 0.0, total / (skip_norm or 1), **values)


def brute_force(model: Residual, x: torch.Tensor, graph: SkipGraph) -> Measurements:
    """S and B of every block by autograd alone: S is dL/dy, B is dL/dy pulled back through F."""
    ins, outs, handles = [], [], []
    for block in model.blocks:

        def hook(_m: nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
            ins.append(args[0])
            outs.append(out)

        handles.append(block.register_forward_hook(hook))
    grads = torch.autograd.grad(model(x).square().mean(), outs)
    for handle in handles:
        handle.remove()
    rows = []
    for skip, block, x_in, g in zip(graph, model.blocks, ins, grads, strict=True):
        x_leaf = x_in.detach().requires_grad_()
        f = block.f(x_leaf)
        (b,) = torch.autograd.grad(f, x_leaf, g)
        rms = float(f.detach().square().mean().sqrt())
        rows.append(row(skip.name, float(g.norm()), float(b.norm()), branch_rms=rms))
    return Measurements(graph, tuple(rows))


@dataclass
class MadeUpLedger:
    """Rows of a test's choice in place of measured ones."""

    held: list[SkipRow] = field(default_factory=list)
    open: int = 0
    taken: int = 0

    def feed(self) -> MadeUpLedger:
        self.taken = len(self.held)
        return self

    def take(self) -> News:
        new, self.taken = self.held[self.taken :], len(self.held)
        return News(new, [], [])

    @contextmanager
    def watch(self, *_args: object, **_kwargs: object):
        self.open += 1
        try:
            yield self
        finally:
            self.open -= 1


def skip(name: str, *branches: tuple[str, ...], tails: tuple[tuple[str, ...], ...] = (), **kw: object) -> Skip:
    """An identity add, by hand."""
    values: dict[str, object] = {"kind": "add", "shortcut": "identity", "long": False, "span": 1, "fan_in": 2}
    values |= {"fork_shape": (2, 4), "merge_shape": (2, 4), "tails": tails or tuple(() for _ in branches)} | kw
    return Skip(name=name, branches=branches, **values)  # type: ignore[arg-type]


def hooks(model: nn.Module) -> int:
    """How many hooks of any kind hang on a model."""
    kinds = [k for k in vars(nn.Module()) if k.endswith("_hooks")]
    return sum(len(getattr(m, k)) for m in model.modules() for k in kinds)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts have the same keys and bits."""
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)
