"""Records what a model computes, op by op, in the order in which a run computes it.

A `Trace` is the list of torch-level calls of one forward with their data flow. It is recorded by a
``TorchFunctionMode`` (the level at which a watch later reaches the same calls), so *the n-th call of a
function here is the n-th call of that function in a run*. Tensors are followed by object; an op that
changes its argument in place makes a new version of the same object.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from skipgrad.finder import ops as rules

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
        dim: dimension, for concatenations.
        batched: True when the stack below a sum is summed away (``stack(...).sum()``).
        shift: argument k of this node is tensor argument k + shift of the call (``addcmul`` is two nodes).
        real: arguments from this one on exist only inside the call.
        given: how many tensors the call was given.
        looked: for a constant, the activations whose values it was computed from (``x > 0``): no gradient comes back
            through it, but a path that is multiplied by it is not linear in them.
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
    dim: int | None = None
    batched: bool = False
    shift: int = 0
    real: int = 99
    given: int = 0
    looked: tuple[int, ...] = ()

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
    """

    nodes: list[Node] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    how: str = "meta"
    training: bool = True
    signature: Any = None
    notes: list[str] = field(default_factory=list)
    unrun: tuple[str, ...] = ()


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


def describe(args: Any, kwargs: Any) -> str:
    """Shapes and dtypes of a call's tensors, e.g. ``"(1, 3, 224, 224) float32"``."""
    words = [f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors_in((args, kwargs))]
    return ", ".join(words) or "no tensors"


class ModuleStack:
    """Knows in whose forward the program is, by global module hooks for as long as it is entered."""

    def __init__(self, model: nn.Module | None) -> None:
        self.names = {id(m): name for name, m in model.named_modules()} if model is not None else {}
        self.path: list[str] = [""]
        self.ran: set[str] = set()
        self.deepest = ""
        self._handles: list[Any] = []

    def _enter(self, module: nn.Module, _args: Any) -> None:
        name = self.names.get(id(module), self.path[-1])
        self.ran.add(name)
        self.path.append(name)
        self.deepest = name

    def _leave(self, _module: nn.Module, _args: Any, _out: Any) -> None:
        if len(self.path) > 1:
            self.path.pop()

    def __enter__(self) -> ModuleStack:
        module = torch.nn.modules.module
        self._handles = [
            module.register_module_forward_pre_hook(self._enter),
            module.register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(self, *_exc: object) -> None:
        for handle in self._handles:
            handle.remove()


class Recorder(TorchFunctionMode):
    """Turns the calls made while it is entered into a `Trace`.

    Args:
        learned: names of parameters by the ``id`` of the tensor that stands for them in this run.
        stack: tells the module a call stands in.
    """

    def __init__(self, learned: dict[int, str], stack: ModuleStack) -> None:
        super().__init__()
        self.trace = Trace()
        self.stack = stack
        self._learned = learned
        self._at: dict[int, int] = {}  # id of a tensor -> node of its present version
        self._keep: list[Any] = []  # so that no id is used twice
        self._view_of: dict[int, torch.Tensor] = {}

    # -- nodes -------------------------------------------------------------------------------------
    def _add(self, **kw: Any) -> Node:
        node = Node(i=len(self.trace.nodes), **kw)
        self.trace.nodes.append(node)
        return node

    def _bind(self, tensor: torch.Tensor, node: Node) -> None:
        self._at[id(tensor)] = node.i
        self._keep.append(tensor)

    def input(self, tensor: torch.Tensor) -> None:
        """Registers a tensor the model is called with."""
        node = self._add(op="input", cls="input", role="activation", **_facts(tensor))
        self._bind(tensor, node)

    def node_of(self, tensor: torch.Tensor) -> int:
        """The node a tensor holds now; a learned tensor or a constant is registered at its first use."""
        at = self._at.get(id(tensor))
        if at is None:
            name = self._learned.get(id(tensor))
            role = "param" if name is not None else "const"
            params = (name,) if name is not None else ()
            node = self._add(op=role, cls=role, role=role, params=params, **_facts(tensor))
            self._bind(tensor, node)
            at = node.i
        return at

    # -- calls -------------------------------------------------------------------------------------
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        raw = getattr(func, "__name__", None) or str(func)
        given = list(tensors_in((args, kwargs)))
        if raw in ("__get__", "__set__", "__delete__"):
            out = func(*args, **kwargs)
            new = isinstance(out, torch.Tensor) and id(out) not in self._at and id(out) not in self._learned
            if raw == "__get__" and new and given and out is not given[0]:
                self._record("T", None, given, [], out, {}, args)
            return out
        versions = [_version(t) for t in given]
        out = func(*args, **kwargs)
        if raw == "__iter__":
            out = list(out)
        if raw == "__setitem__":
            results: Any = args[0]
        else:
            results = out
        changed = [t for t, v in zip(given, versions, strict=True) if _version(t) != v]
        if raw == "__setitem__" and not changed:
            changed = [args[0]]
        if any(True for _ in tensors_in(results)):
            number = self.trace.calls[raw]
            self.trace.calls[raw] += 1
            self._record(rules.canonical(raw), (raw, number), given, changed, results, kwargs, args)
        return iter(out) if raw == "__iter__" else out

    def _record(
        self,
        op: str,
        call: tuple[str, int] | None,
        given: list[torch.Tensor],
        changed: list[torch.Tensor],
        results: Any,
        kwargs: dict[str, Any],
        args: Any,
    ) -> None:
        outs = list(tensors_in(results))
        held = tuple(self.node_of(t) for t in given)
        fresh = [t for t in outs if not any(t is g for g in given) or any(t is c for c in changed)]
        if not fresh:  # ``x.to(dtype)`` that had nothing to do
            return
        nodes = self.trace.nodes
        cls = rules.class_of(op)
        if cls is None:
            if any(nodes[h].role == "activation" for h in held):
                self.trace.unknown[(op, self.stack.path[-1])] += 1
            cls = "nonlinear"
        if op == "data":  # ``.data`` is a detached view
            cls = "identity"
        ins = tuple(dict.fromkeys(h for h in held if nodes[h].role == "activation"))
        params = tuple(dict.fromkeys(p for h in held if nodes[h].role == "param" for p in nodes[h].params))
        role = "activation" if ins else "param" if params else "const"
        looked = tuple(dict.fromkeys(n for h in held if nodes[h].role == "const" for n in nodes[h].looked))
        if cls == "constant":
            looked = (*looked, *ins) if op in rules.LOOKS else ()
            role, ins, params = "const", (), ()
        common: dict[str, Any] = {
            "module": self.stack.path[-1],
            "params": params,
            "role": role,
            "inplace": bool(changed),
            "call": call,
            "given": len(given),
            "looked": looked if role == "const" else (),
        }
        if op in ("addcmul", "addmm", "baddbmm", "addbmm", "addmv") and nodes[held[0]].role == "activation":
            inner = "mul" if op == "addcmul" else "matmul"
            product = self._product(inner, held[1:], common, outs[0])
            both = tuple(n for n in (held[0], product.i) if nodes[n].role == "activation")
            node = self._add(
                op="add", cls="add", args=(held[0], product.i), ins=both, real=1,
                **{**common, "params": ()}, **_facts(outs[0]),
            )  # fmt: skip
        elif op in ("addmm", "addcmul", "baddbmm", "addbmm", "addmv"):
            cls = "scaled" if op == "addcmul" else "matrix"
            node = self._add(op=op, cls=cls, args=held, ins=ins, **common, **_facts(outs[0]))
        else:
            node = self._add(op=op, cls=cls, args=held, ins=ins, **common, **_facts(outs[0]))
        if cls == "add":
            node.number = float(kwargs["alpha"]) if isinstance(kwargs.get("alpha"), (int, float)) else 1.0
        if cls == "cat":
            dim = kwargs.get("dim", args[1] if len(args) > 1 and isinstance(args[1], int) else 0)
            node.dim = int(dim) % max(1, len(node.shape))
        if op == "sum" and len(ins) == 1 and nodes[ins[0]].cls == "stack":
            node.batched = len(node.shape) == len(nodes[ins[0]].shape) - 1
        if isinstance(results, torch.Tensor):
            self._rebind(results, node, given, changed)
        else:
            for k, tensor in enumerate(outs):
                part = self._add(
                    op="output", cls="identity", args=(node.i,), ins=(node.i,) if role == "activation" else (),
                    role=role, params=params if role == "param" else (), module=node.module, call=call, result=k,
                    **_facts(tensor),
                )  # fmt: skip
                self._rebind(tensor, part, given, changed)
        if call and cls in ("identity", "slice") and given:
            for tensor in outs:
                if tensor is not given[0]:
                    self._view_of[id(tensor)] = given[0]

    def _product(self, op: str, held: tuple[int, ...], common: dict[str, Any], out: torch.Tensor) -> Node:
        nodes = self.trace.nodes
        ins = tuple(dict.fromkeys(h for h in held if nodes[h].role == "activation"))
        role = "activation" if ins else "param" if common["params"] else "const"
        cls = "scaled" if op == "mul" else "matrix"
        return self._add(op=op, cls=cls, args=held, ins=ins, shift=1, **{**common, "role": role}, **_facts(out))

    def _rebind(self, tensor: torch.Tensor, node: Node, given: list[torch.Tensor], changed: list[torch.Tensor]) -> None:
        self._bind(tensor, node)
        # A change in place through a view changes the tensor it views.
        seen = 0
        while any(tensor is c for c in changed) and id(tensor) in self._view_of and seen < 8:
            base = self._view_of[id(tensor)]
            old = self.node_of(base)
            nodes = self.trace.nodes
            ins = tuple(n for n in (old, node.i) if nodes[n].role == "activation")
            role = "activation" if ins else nodes[old].role
            node = self._add(
                op="slice_scatter", cls="slice", args=(old, node.i), ins=ins, role=role, module=node.module,
                call=None, **_facts(base),
            )  # fmt: skip
            self._bind(base, node)
            changed = [*changed, base]
            tensor, seen = base, seen + 1


def _facts(tensor: torch.Tensor) -> dict[str, Any]:
    floating = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    return {"shape": tuple(int(s) for s in tensor.shape), "floating": floating, "dtype": tensor.dtype}


def _version(tensor: torch.Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # inference tensors keep no version
        return 0
