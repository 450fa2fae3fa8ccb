"""What a model computes, op by op, in the order in which a run computes it: the records."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter, UserDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

# Nodes: "activation" descends from the inputs, "param" from learned tensors only, "const" from neither.


@dataclass(slots=True)
class Node:
    """One value: an input, a learned tensor, the result of an op or one of its several results.

    Attributes:
        i: its number; nodes are in order of execution.
        op: canonical op (``"add"``), or ``"input"``, ``"param"``, ``"const"``, ``"output"`` (one result of several).
        cls: class of the op (see `ops`).
        role: ``"activation"``, ``"param"`` or ``"const"``.
        args: per tensor argument in call order, the node it held.
        ins: the activation nodes among them, each once.
        params: names of the learned tensors that reach the op directly or through ops on learned tensors only.
        module: path of the module in whose forward the call stands.
        shape: of the result.
        floating: whether the result is floating-point.
        dtype: of the result.
        call: (name of the function as called, how many calls of that name came before); None for inputs.
        result: which result of the call this is.
        inplace: the call changed its first argument in place.
        number: a plain number among its arguments that matters (alpha, a factor), for merges.
        scalar: the number beside the one tensor of an add or subtraction (``1 - g``); it comes first only in rsub.
        second: for an add the tensor that alpha or the minus is for, for a lerp the one that is the weight.
        dim: dimension, for concatenations and stacks.
        batched: True when the stack below a sum is summed away (``stack(...).sum()``).
        shift: argument k of this node is tensor argument k + shift of the call (``addcmul`` is two nodes).
        real: arguments from this one on exist only inside the call.
        given: how many tensors the call was given.
        looked: for a constant, the activations whose values it was computed from (``x > 0``): no gradient comes back
            through it, but a path that is multiplied by it is not linear in them.
        below: computed where it is not known in which module's forward (exported and scripted programs).
    """

    i: int
    op: str
    cls: str
    role: str
    args: tuple[int, ...] = ()
    ins: tuple[int, ...] = ()
    params: tuple[str, ...] = ()
    module: str = ""
    shape: tuple[int, ...] = ()
    floating: bool = True
    dtype: torch.dtype = torch.float32
    call: tuple[str, int] | None = None
    result: int = 0
    inplace: bool = False
    number: float = 1.0
    scalar: float | None = None
    second: int = 1
    dim: int | None = None
    batched: bool = False
    shift: int = 0
    real: int = 99
    given: int = 0
    looked: tuple[int, ...] = ()
    below: bool = False

    @property
    def weight(self) -> int:
        """2 for a matrix-like weighted op, 1 for a learned norm or scale, 0 for none."""
        if not self.params or self.role != "activation":
            return 0
        if self.cls == "matrix":
            return 2
        return 0 if self.cls in ("add", "cat", "slice", "stack", "identity") else 1


@dataclass
class Trace:
    """The calls of one forward.

    Attributes:
        nodes: in order of execution.
        calls: how often each function was called, by its name.
        unknown: calls without a rule: (canonical op, module) and how many.
        how: ``"meta"``, ``"fake"`` or ``"real"``.
        training: whether the model was in training mode.
        signature: structure, shapes and dtypes of the arguments.
        notes: what was surprising.
        unrun: paths of leaf modules that were not called.
        rules: a user's own rules it was recorded with.
    """

    nodes: list[Node] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    how: str = "meta"
    training: bool = True
    signature: Any = None
    notes: list[str] = field(default_factory=list)
    unrun: tuple[str, ...] = ()
    rules: Any = None

    @property
    def flat(self) -> bool:
        """Whether it is not known of some calls in which module's forward they stood (exported, scripted programs)."""
        return any(n.below for n in self.nodes)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested lists, tuples and dicts, in order: the order `replace_tensors` counts in."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from tensors_in(v)
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from tensors_in(v)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from tensors_in(getattr(value, f.name))


def is_counted(args: Any, kwargs: Any) -> bool:
    """Whether a call has a number: not when all it is given are whole numbers and truth values.

    Such calls work on positions and masks; transformers makes other ones of them under a compiler.
    """
    return _held(args) + _held(kwargs) not in (1, 2)


def _held(value: Any) -> int:
    """3 or more when there is a tensor of real or complex numbers, 1 when there are only others, 0 when there is none.

    A compiler reads this, too: plain loops.
    """
    if isinstance(value, torch.Tensor):
        return 3 if value.dtype.is_floating_point or value.dtype.is_complex else 1
    held = 0
    if isinstance(value, (list, tuple)):
        for v in value:
            held = max(held, _held(v))
            if held == 3:
                break
    elif isinstance(value, dict):
        for v in value.values():
            held = max(held, _held(v))
    return held


def mapped(value: Any, fn: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same structure with every tensor of `tensors_in` replaced; containers are new ones, other values the same."""
    if isinstance(value, torch.Tensor):
        return fn(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(v, fn) for v in value))
    if type(value) in (list, tuple):
        return type(value)(mapped(v, fn) for v in value)
    if type(value) is dict:
        return {k: mapped(v, fn) for k, v in value.items()}
    if not any(True for _ in tensors_in(value)):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(v, fn) for v in value)
    twin = copy.copy(value)
    if isinstance(value, Mapping):
        if isinstance(value, UserDict):
            twin.data = dict(value.data)
        for key, v in value.items():
            twin[key] = mapped(v, fn)  # type: ignore[index]
    else:
        for f in dataclasses.fields(value):
            object.__setattr__(twin, f.name, mapped(getattr(value, f.name), fn))  # frozen ones too
    return twin


def describe(args: Any, kwargs: Any) -> str:
    """Shapes and dtypes of a call's tensors, e.g. ``"(1, 3, 224, 224) float32"``."""
    words = [f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors_in((args, kwargs))]
    return ", ".join(words) or "no tensors"
