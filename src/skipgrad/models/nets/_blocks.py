"""Residual blocks of two 3×3 convolutions with any form of skip that adds."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from skipgrad.blocks import make_shortcut, norm2d
from skipgrad.blocks.forms import Fixup, LayerScale, NFNet, ReZero, SkipInit, StochasticDepth
from skipgrad.core import BadInput, nearest

WITHOUT_NORM = ("fixup", "nfnet")  # made to do without
LEAST_SURVIVAL = 0.5  # of the last block; that of the first is nearly 1

# (branch, shortcut, channels of the result, number of the block, blocks in all) → the block without its last activation
FORMS: dict[str, Callable[[nn.Module, nn.Module, int, int, int], nn.Module]] = {
    "rezero": lambda f, s, c, k, n: ReZero(f, shortcut=s),
    "skipinit": lambda f, s, c, k, n: SkipInit(f, shortcut=s),
    "layerscale": lambda f, s, c, k, n: LayerScale(f, c, 0.1, 1, shortcut=s),
    "stochastic-depth": lambda f, s, c, k, n: StochasticDepth(f, 1 - (1 - LEAST_SURVIVAL) * (k + 1) / n, shortcut=s),
    "fixup": lambda f, s, c, k, n: Fixup(f, n, shortcut=s),
    "nfnet": lambda f, s, c, k, n: NFNet(f, 0.2, NFNet.beta_at(k), shortcut=s),
}


def norm_for(form: str, norm: str | None) -> str:
    """The norm that was asked for; where none was, batch norm, or none for the forms made to do without."""
    return norm if norm is not None else "none" if form in WITHOUT_NORM else "batch"


def blocks_of(form: str, depth: int, shortcut: str, *, preact: bool) -> Callable[..., nn.Module]:
    """Makes blocks ``(in_channels, out_channels, stride, norm=…)`` with a form of skip, one after the other.

    Args:
        form: a key of `FORMS`.
        depth: layers of the net, 6k + 2.
        shortcut: ``"pad"`` or ``"projection"`` where the shape changes.
        preact: norm and ReLU before each convolution, and no ReLU behind the add.

    Raises:
        BadInput: a form that does not add one branch to x.
    """
    own = "preact" if preact else "residual"
    if form not in FORMS:
        raise BadInput("building a residual net", received=f"form={form!r}", todo=nearest(str(form), [own, *FORMS], 12))
    total, made = (depth - 2) // 2, 0

    def block(in_channels: int, out_channels: int, stride: int = 1, *, norm: str = "batch") -> nn.Module:
        nonlocal made
        branch = _branch(in_channels, out_channels, stride, norm, preact)
        short = make_shortcut(shortcut, in_channels, out_channels, stride, "none" if preact else norm)
        whole = FORMS[form](branch, short, out_channels, made, total)
        made += 1
        return whole if preact else nn.Sequential(whole, nn.ReLU())

    return block


def _branch(in_channels: int, out_channels: int, stride: int, norm: str, preact: bool) -> nn.Sequential:
    bias = norm == "none"
    layers: list[nn.Module] = []
    for c, s in ((in_channels, stride), (out_channels, 1)):
        conv = nn.Conv2d(c, out_channels, 3, s, 1, bias=bias)
        scaled = [] if norm == "none" else [norm2d(norm, c if preact else out_channels)]
        layers += [*scaled, nn.ReLU(), conv] if preact else [conv, *scaled, nn.ReLU()]
    return nn.Sequential(*(layers if preact else layers[:-1]))
