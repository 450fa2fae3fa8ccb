"""The records of a trace: what a model computes, op by op, in the order in which a run computes it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from skipgrad.instrument.calls import Address

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
        module: path of the module whose forward makes the call.
        shape: the shape of the result.
        floating: whether the result is floating-point.
        dtype: the dtype of the result.
        call: (name of the function as called, how many calls of that name came before); None for inputs.
        result: which result of the call this is.
        inplace: whether the call changed its first argument in place.
        number: for merges, the plain number among the arguments that counts (alpha, a factor).
        scalar: the number beside the one tensor of an add or subtraction (``1 - g``); it comes first only in rsub.
        second: which tensor argument alpha or the minus of an add belongs to, or which one is the weight of a lerp.
        dim: the dimension of a concatenation or a stack.
        batched: for a sum, whether it sums away the dimension of the stack that it takes (``stack(...).sum()``).
        shift: argument k of this node is tensor argument k + shift of the call (``addcmul`` is two nodes).
        real: arguments from this number on exist only inside the call.
        given: how many tensors the call was given.
        looked: for a constant, the activations whose values it was computed from (``x > 0``): no gradient comes back
            through it, but a path that is multiplied by it is not linear in them.
        lies: for a learned value, where in memory it lies (`calls.place_of`), which tells parts of a weight apart.
        below: computed where it is not known in which module's forward (exported and scripted programs).
        within: the application of an autograd function that it was computed inside of, where that is known.
        region: the reentrant checkpoint that it was computed inside of, likewise; it is computed again in the backward.
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
    call: Address | None = None
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
    lies: Any = None
    within: Address | None = None
    region: Address | None = None

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
        unknown: (canonical op, module) → how many calls there were for which the table has no rule.
        how: ``"meta"``, ``"fake"`` or ``"real"``.
        training: whether the model was in training mode.
        signature: the key of the call that was traced (`run.signature`).
        notes: what was surprising.
        unrun: paths of leaf modules that were not called.
        weights: names of the learned tensors of the model that have more than one dimension, run or not.
        drew: whether the forward may have drawn random numbers, other than in ops such as dropout.
        rules: the user's own rules that it was recorded with.
        applied: application of an autograd function → the nodes of what it was given, and of what it returned.
    """

    nodes: list[Node] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    how: str = "meta"
    training: bool = True
    signature: Any = None
    notes: list[str] = field(default_factory=list)
    unrun: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    drew: bool = False
    rules: Any = None
    applied: dict[Address, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def flat(self) -> bool:
        """Whether it is not known of some calls in which module's forward they stood (exported, scripted programs)."""
        return any(n.below for n in self.nodes)
