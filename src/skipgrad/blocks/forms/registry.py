"""Every form of skip connection by name, with what it states of itself: the conformity tests hold it to that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from skipgrad.core import Registry
from skipgrad.core.skips import Kind, Shortcut

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """One skip that `skipgrad.find` answers on a form's example.

    Attributes:
        kind: how the paths meet.
        shortcut: what the shortcut does to x.
        span: matrix-like weighted ops on the branch.
        fan_in: operands of the merge.
        long: whether the skip is long.
    """

    kind: Kind
    shortcut: Shortcut
    span: int
    fan_in: int = 2
    long: bool = False


@dataclass(frozen=True)
class FormEntry:
    """A form in the registry.

    Attributes:
        title: what it is called, in words.
        build: the class.
        example: builds a small one around a branch of two linear maps, or of two convolutions.
        shape: of the example's input.
        formula: what it computes.
        paper: where it is from.
        shapes: what goes in and what comes out.
        start: what it computes before the first step, in words.
        initially: the same, computed by hand from the example and its input; equal bit for bit.
        finds: the skips `skipgrad.find` answers on the example, in order.
        when: when to use it.
        cost: what it costs beside a plain add.
        sees: why `find` answers that, where it surprises.
        breaks: where ``torch.compile`` cannot keep one graph; empty where ``fullgraph=True`` works.
        outside: the implementations elsewhere that the tests compare with; empty when there is none.
    """

    title: str
    build: type[nn.Module]
    example: Callable[[], nn.Module]
    shape: Shape
    formula: str
    paper: str
    shapes: str
    start: str
    initially: Callable[[nn.Module, Tensor], Tensor]
    finds: tuple[Seen, ...]
    when: str
    cost: str
    sees: str = ""
    breaks: str = ""
    outside: str = ""


FORMS: Registry[FormEntry] = Registry("form", FormEntry, home="skipgrad.blocks.forms", group="skipgrad.forms")

FEATURES, TOKENS, IMAGE = (4, 6), (2, 3, 6), (2, 4, 8, 8)  # shapes of the examples' inputs


def linears(width: int = 6, out: int | None = None) -> nn.Sequential:
    """The branch of most examples: Linear, tanh, Linear."""
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out or width))


def convs(channels: int = 4, out: int | None = None, stride: int = 1) -> nn.Sequential:
    """The branch of the examples on images: two 3×3 convolutions."""
    out = out or channels
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1), nn.Tanh(), nn.Conv2d(out, out, 3, 1, 1))
