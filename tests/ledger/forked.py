"""Brute force on planted nets: their parts' forwards, written a second time with a copy of x for each side of a fork.

Nothing of the finder or the ledger is used. The copies' gradients, from ``torch.autograd.grad``, are S and B.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finder.planted_draws import Net
from finder.planted_others import _Dense, _Gate, _Index, _Split
from finder.planted_residual import _Residual


@dataclass
class Forked:
    """One skip: the copies of x that the shortcut and the branch took, what the merge returned; none for indices."""

    shortcut: list[Tensor]
    branch: list[Tensor]
    merge: Tensor
    x: list[Tensor]


class Forks:
    """Runs a planted net with every fork written out.

    Attributes:
        skips: in order of the merges, after a forward.
    """

    def __init__(self, net: Net, model: nn.Module) -> None:
        self.skips: list[Forked | None] = []
        forwards = {_Residual: residual, _Dense: dense, _Gate: gate, _Split: split, _Index: index}
        for module in model.modules():
            for kind, forward in forwards.items():
                if isinstance(module, kind):
                    module.forward = types.MethodType(self._bound(forward), module)  # type: ignore[method-assign]

    def _bound(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda module, x: forward(self, module, x)

    def merged(self, shortcut: list[Tensor], branch: list[Tensor], y: Tensor, x: list[Tensor]) -> Tensor:
        """Notes a skip; what goes on is a copy, as it may be changed in place."""
        self.skips.append(Forked(shortcut, branch, y, x))
        return y.clone()


def two(x: Tensor) -> tuple[Tensor, Tensor]:
    """A copy to ask the gradient of, and a copy of it to hand on, as it may be changed in place."""
    kept = x.clone()
    return kept, kept.clone()


def residual(forks: Forks, m: Any, x: Tensor) -> Tensor:
    spec = m.spec
    (s0, s), (b0, b), (_, rest) = two(x), two(x), two(x)
    short = m.short(s) if spec.shortcut != "identity" and not spec.late else s
    # At a concatenation of several, B is what came through the newest; a norm they share is on its way.
    n = m.pre(b) if m.pre is not None else None
    last = len(m.names) - 1
    takes = [n if n is not None else b if k == last or not spec.concat else rest for k in range(last + 1)]
    branches = [getattr(m, name)(take) for name, take in zip(m.names, takes, strict=True)]
    if spec.shortcut != "identity" and spec.late:
        short = m.short(s)
    if spec.concat:
        y = m._cat([*branches, short] if spec.flip else [short, *branches])
    else:
        y = m._add_two(short, branches[0]) if last == 0 else m._add(short, branches)
    return forks.merged([s0], [b0], y, [x])


def dense(forks: Forks, m: Any, x: Tensor) -> Tensor:
    layers = list(getattr(m, m.held))
    if not m.growing:
        for layer in layers:
            (s0, s), (b0, b) = two(x), two(x)
            x = forks.merged([s0], [b0], torch.cat((s, layer(b)), m.axis), [x])
        return x
    held, group = [x], [x.clone()]
    whole = torch.cat(group, m.axis)
    for layer in layers:
        new = layer(whole)
        before, xs = group, held
        held = [*held, new]
        group = [t.clone() for t in held]
        merge = torch.cat(group, m.axis)
        whole = forks.merged(group[:-1], before, merge, xs)
    return whole


def gate(forks: Forks, m: Any, x: Tensor) -> Tensor:
    (s0, s), (b0, b), (_, third) = two(x), two(x), two(x)
    g = torch.sigmoid(m.gate(third)) if m.first else None
    f = getattr(m, m.branch)(b)
    if g is None:
        g = torch.sigmoid(m.gate(third))
    forms = {
        "g*F + (1-g)*x": lambda: g * f + (1 - g) * s,
        "(1-g)*F + g*x": lambda: (1 - g) * f + g * s,
        "x*(1-g) + F*g": lambda: s * (1 - g) + f * g,
        "lerp(x, F, g)": lambda: s + g * (f - s),
        "lerp(F, x, g)": lambda: f + g * (s - f),
        "rsub": lambda: g * f + s * (1 - g),
    }
    return forks.merged([s0], [b0], forms[m.form](), [x])


def split(forks: Forks, m: Any, x: Tensor) -> Tensor:
    axis = m.ctx.axis
    half = x.shape[axis] // 2
    (s0, s), (b0, b) = two(x), two(x)
    left, right = s.narrow(axis, 0, half), getattr(m, m.branch)(b.narrow(axis, half, half))
    return forks.merged([s0], [b0], left + right if m.add else torch.cat((left, right), axis), [x])


def index(forks: Forks, m: Any, x: Tensor) -> Tensor:
    x, indices = m.pool(x)
    y = m.unpool(getattr(m, m.branch)(x), indices, 2)
    forks.skips.append(None)
    return y


def answers(forks: Forks, loss: Tensor) -> list[dict[str, float] | None]:
    """The figures of every skip noted, in order."""
    out: list[dict[str, float] | None] = []
    for skip in forks.skips:
        if skip is None:
            out.append(None)
            continue
        k = len(skip.shortcut)
        grads = torch.autograd.grad(
            loss, [*skip.shortcut, *skip.branch, skip.merge], retain_graph=True, materialize_grads=True
        )
        out.append(figures(grads[:k], grads[k:-1], grads[-1], skip.x))
    return out


def figures(s_parts: Any, b_parts: Any, arrived: Tensor, x: Any) -> dict[str, float]:
    """The columns of a row, from the gradients."""
    s, b = (torch.cat([g.double().flatten() for g in parts]) for parts in (s_parts, b_parts))
    whole = torch.cat([t.detach().double().flatten() for t in x])
    return {
        "skip_norm": s.norm().item(),
        "branch_norm": b.norm().item(),
        "total_norm": (s + b).norm().item(),
        "out_norm": arrived.double().norm().item(),
        "cosine": (s @ b / (s.norm() * b.norm())).item() if s.any() and b.any() else 0.0,
        "x_rms": whole.square().mean().sqrt().item(),
    }
