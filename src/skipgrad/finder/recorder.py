"""Records the calls of one forward with their data flow.

The recorder is a ``TorchFunctionMode``: it sees calls at the level at which a watch later reaches the same calls, so
*the n-th call of a function here is the n-th call of that function in a run*. Tensors are followed by object; an op
that changes its argument in place makes a new version of the same object.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from skipgrad.core import BadInput
from skipgrad.finder import ops
from skipgrad.finder.calls import (
    changed_by,
    data_of,
    dimension,
    facts,
    place_of,
    qualified_name,
    second_of,
    share_memory,
    version_of,
)
from skipgrad.finder.computed import in_weight
from skipgrad.finder.functions import shown_to
from skipgrad.finder.meta import without_arithmetic
from skipgrad.finder.modules import ModuleStack
from skipgrad.finder.rules import NO_RULES, Rule, Rules, resolved
from skipgrad.finder.trace import Node, Trace
from skipgrad.finder.values import Values
from skipgrad.instrument.calls import Address, EnteredOnce, function_name, meant
from skipgrad.instrument.tensors import is_counted, listed, tensors_in

ACCESSORS = frozenset({"__get__", "__set__", "__delete__"})  # of a tensor's attributes
UNREGISTERED = "(unregistered)"  # a learned tensor that no module owns
_FUSED = ("addcmul", "addmm", "baddbmm", "addbmm", "addmv")  # an add and a product in one call


@dataclass(slots=True)
class Met:
    """A call that is about to be made, as it was met.

    Attributes:
        func: the function.
        raw: its name.
        op: the op it computes.
        args: what it is called with.
        kwargs: what it is called with.
        given: the tensors among them.
        versions: of those tensors.
        rule: the user's rule for it, if any.
    """

    func: Any
    raw: str
    op: str
    args: Any
    kwargs: Any
    given: list[torch.Tensor]
    versions: list[int]
    rule: Rule | None


class Recorder(EnteredOnce):
    """Turns the calls made while it is entered into a `Trace`.

    Args:
        learned: names of parameters by the ``id`` of the tensor that stands for them in this run.
        stack: tells which module's forward a call is made in.
        constants: tensors the model owns that are not learned (buffers and the like).
        rules: the user's own rules, which come before the table in ``ops.py``.

    Attributes:
        trace: what was recorded.
        met: the user's rules that applied to something.
        unseen: whether a tensor turned up that no recorded call had made; it was computed below the level of
            ``__torch_function__``.
    """

    def __init__(
        self,
        learned: dict[int, str],
        stack: ModuleStack,
        constants: Iterable[torch.Tensor] = (),
        rules: Rules = NO_RULES,
    ) -> None:
        super().__init__()
        self.trace = Trace()
        self.unseen = False
        self.met: set[Any] = set()
        self.below = 0  # above 0: inside a call that `Surface` has brought up from below
        self._stack, self._learned, self._rules = stack, learned, rules
        self._constants = {id(t) for t in constants}
        self._values = Values()
        # The next ones are counters and not flags because what they tell of may nest.
        self._apart = 0  # above 0: inside a user's function that runs in an op's place; its calls get no address,
        # because a watched run makes the op itself and never these calls
        self._within: set[str] = set()  # ops in whose place a user's function is running
        self._inside = 0  # above 0: inside a call that is being recorded; the calls it makes are not recorded
        self._applied: Address | None = None  # the application of an autograd function that is running
        self._checkpoint: Address | None = None  # the reentrant checkpoint that is running
        self._silent = 0  # above 0: inside something that counts as one op; its calls are counted, not recorded

    # -- nodes -------------------------------------------------------------------------------------
    def _add(self, **kw: Any) -> Node:
        node = Node(i=len(self.trace.nodes), **kw)
        self.trace.nodes.append(node)
        return node

    def input(self, tensor: torch.Tensor) -> None:
        """Registers a tensor the model is called with."""
        node = self._add(op="input", cls="input", role="activation", **facts(tensor))
        self._values[tensor] = node.i

    def node_of(self, tensor: torch.Tensor) -> int:
        """The node whose value a tensor holds now; a learned tensor or a constant gets its node at its first use."""
        at = self._values.get(tensor)
        if at is not None:
            return at
        name = self._learned.get(id(tensor))
        if name is None and id(tensor) not in self._constants:
            same = self._values.in_the_same_place(tensor)
            if same is not None:
                return same
            if tensor.is_leaf and tensor.requires_grad:
                name = UNREGISTERED
            else:
                self.unseen = True
        role = "param" if name is not None else "const"
        node = self._add(op=role, cls=role, role=role, params=(name,) if name else (), **facts(tensor))
        node.lies = place_of(tensor) if name is not None else None
        self._values[tensor] = node.i
        return node.i

    # -- calls -------------------------------------------------------------------------------------
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        raw = function_name(func)
        if raw in ACCESSORS:
            return self._attribute(func, raw, args, kwargs)
        if self._silent:
            out = meant(func)(*args, **kwargs)
            self._passed_over(raw, args, kwargs, out)
            return out
        met = self._meet(func, raw, args, kwargs)
        if callable(met.rule):
            return self._instead(met.op, met.rule, raw, args, kwargs)
        out = without_arithmetic(raw, args, kwargs)
        if out is None:
            self._inside += 1
            try:
                out = meant(func)(*args, **kwargs)
            finally:
                self._inside -= 1
        if raw == "__iter__":
            out = list(out)  # an iterator can be read only once: its tensors are recorded, then a new one is returned
        self._made(met, out)
        return iter(out) if raw == "__iter__" else out

    def _passed_over(self, raw: str, args: Any, kwargs: Any, out: Any) -> None:
        """Counts a call inside something that counts as one op."""
        if is_counted(args, kwargs):
            self._count(raw, args[0] if raw == "__setitem__" else out)

    def _meet(self, func: Any, raw: str, args: Any, kwargs: Any) -> Met:
        """What is known of a call before it is made."""
        given = listed(args, kwargs)
        op = ops.as_called(raw, args, kwargs)
        rule = self._rule(op, qualified_name(func)) if self._rules.ops else None
        return Met(func, raw, op, args, kwargs, given, [version_of(t) for t in given], rule)

    def _made(self, met: Met, out: Any) -> None:
        """Records a call that was made."""
        raw, args, kwargs, given = met.raw, met.args, met.kwargs, met.given
        results = args[0] if raw == "__setitem__" else out
        changed = changed_by(raw, met.func, args, given, met.versions)
        counted = is_counted(args, kwargs)
        number = self._count(raw, results) if counted else None
        if number is not None or (not counted and any(True for _ in tensors_in(results))):
            call = None if self._apart or number is None else Address(raw, number)
            rule = None if callable(met.rule) else met.rule
            self._record(met.op, call, given, changed, results, kwargs, args, rule)

    def _attribute(self, func: Any, raw: str, args: Any, kwargs: Any) -> Any:
        """Handles access to a tensor's attribute; ``x.T``, ``x.real`` and the like make a view without a call."""
        out = func(*args, **kwargs)
        if raw == "__get__" and isinstance(out, torch.Tensor) and not self._silent:
            new = self._values.get(out) is None and id(out) not in self._learned
            given = list(tensors_in((args, kwargs)))
            if new and given and out is not given[0]:
                self._record("T", None, given, [], out, {}, args)
        return out

    def _count(self, raw: str, results: Any) -> int | None:
        """How many calls of this function came before; None for a call that makes no tensor."""
        if not isinstance(results, torch.Tensor) and not any(True for _ in tensors_in(results)):
            return None
        number = self.trace.calls[raw]
        if not self._apart or self._silent:
            self.trace.calls[raw] += 1
        return number

    def _rule(self, op: str, qualified: str = "") -> Rule | None:
        """The user's rule for an op, if any; none while that rule's own function runs, which may call the op itself."""
        found = self._rules.op(op, qualified) if self._rules.ops else None
        if found is None or op in self._within:
            return None
        self.met.add(found[0])
        return found[1]

    def _instead(self, op: str, function: Any, raw: str, args: Any, kwargs: Any, *, popped: bool = True) -> Any:
        """Runs a user's function in the place of an op, and records what it does."""
        self._apart += 1
        self._within.add(op)
        self._entered += 1  # stays entered inside, where torch has popped the mode
        try:
            with _Again(self) if popped else contextlib.nullcontext():
                out = function(*args, **kwargs)
        except Exception as error:
            raise BadInput(
                f"running the function that the rule for {op!r} puts in its place",
                where=f"module {self._stack.path[-1]!r}" if self._stack.path[-1] else "the model's own forward",
                received=f"it raised {type(error).__name__}: {error}",
                todo="give it the arguments of the op, in ordinary torch ops",
            ) from error
        finally:
            self._apart -= 1
            self._entered -= 1
            self._within.discard(op)
        if not self._apart and is_counted(args, kwargs):
            self._count(raw, out)
        return out

    def _record(
        self,
        op: str,
        call: Address | None,
        given: list[torch.Tensor],
        changed: list[torch.Tensor],
        results: Any,
        kwargs: dict[str, Any],
        args: Any,
        rule: str | None = None,
        params: tuple[str, ...] = (),
    ) -> None:
        outs = [results] if isinstance(results, torch.Tensor) else list(tensors_in(results))
        held = tuple([self.node_of(t) for t in given])
        fresh = [t for t in outs if not any(t is g for g in given) or any(t is c for c in changed)]
        if not fresh:  # ``x.to(dtype)`` that had nothing to do
            return
        nodes = self.trace.nodes
        op, cls = self._meaning(op, rule, held, outs, isinstance(results, torch.Tensor))
        data = data_of(op, held)
        ins = tuple(dict.fromkeys(h for h in data if nodes[h].role == "activation"))
        learned = (p for h in data if nodes[h].role == "param" for p in nodes[h].params)
        params = tuple(dict.fromkeys((*learned, *params, *in_weight(nodes, op, held))))
        role = "activation" if ins else "param" if params else "const"
        looked = tuple(dict.fromkeys(n for h in held if nodes[h].role == "const" for n in nodes[h].looked))
        if cls == "constant":
            looked = (*looked, *ins) if op in ops.LOOKS else ()
            role, ins, params = "const", (), ()
        common: dict[str, Any] = {
            "module": self._stack.path[-1],
            "params": params,
            "role": role,
            "inplace": bool(changed),
            "call": call,
            "below": bool(self.below),
            "within": self._applied,
            "region": self._checkpoint,
            "given": len(given),
            "looked": looked if role == "const" else (),
        }
        if op in _FUSED and nodes[held[0]].role == "activation":
            inner = "mul" if op == "addcmul" else "matmul"
            product = self._product(inner, held[1:], common, outs[0])
            both = tuple(n for n in (held[0], product.i) if nodes[n].role == "activation")
            node = self._add(
                op="add", cls="add", args=(held[0], product.i), ins=both, real=1,
                **{**common, "params": ()}, **facts(outs[0]),
            )  # fmt: skip
        else:
            if op in _FUSED:
                cls = "scaled" if op == "addcmul" else "matrix"
            node = self._add(op=op, cls=cls, args=held, ins=ins, **common, **facts(outs[0]))
        if cls == "add":
            node.number = float(kwargs["alpha"]) if isinstance(kwargs.get("alpha"), (int, float)) else 1.0
        if cls in ("add", "lerp"):
            node.second = second_of(op, args, kwargs, len(given))
        if cls == "add" and len(given) == 1:
            numbers = [a for a in (*args, *kwargs.values()) if isinstance(a, (int, float))]
            node.scalar = float(numbers[0]) if numbers else None
            if op == "sub" and args and isinstance(args[0], (int, float)):
                node.op = "rsub"  # torch.sub(1, g)
        if cls == "cat" and op != "setitem":
            dim = kwargs.get("dim", args[1] if len(args) > 1 and isinstance(args[1], int) else 0)
            node.dim = int(dim) % max(1, len(node.shape))
        if cls == "stack":
            node.dim = dimension(args, kwargs, len(node.shape))
        if op in ("sum", "mean") and len(ins) == 1 and nodes[ins[0]].cls == "stack":
            node.batched = dimension(args, kwargs, len(nodes[ins[0]].shape)) == nodes[ins[0]].dim
        if isinstance(results, torch.Tensor):
            node.lies = place_of(results) if role == "param" else None
            self._rebind(results, node, given, changed)
        else:
            for k, tensor in enumerate(outs):
                part = self._add(
                    op="output", cls="identity", args=(node.i,), ins=(node.i,) if role == "activation" else (),
                    role=role, params=params if role == "param" else (), module=node.module, call=call, result=k,
                    **facts(tensor),
                )  # fmt: skip
                part.lies = place_of(tensor) if role == "param" else None
                self._rebind(tensor, part, given, changed)
        if call and cls in ("identity", "slice") and given:
            for tensor in outs:
                if tensor is not given[0]:
                    self._values.viewed(tensor, given[0])

    def _meaning(
        self, op: str, rule: str | None, held: tuple[int, ...], outs: list[torch.Tensor], single: bool
    ) -> tuple[str, str]:
        """The op a call is taken for, and the op's class: by the user's rule if there is one, else by the table."""
        nodes = self.trace.nodes
        if rule is not None:
            like, cls = resolved(rule)
            return like or (cls if cls == "add" else op if ops.class_of(op) == cls else f"{op}*"), cls
        cls = ops.class_of(op)
        if cls is None:
            if any(nodes[h].role == "activation" for h in held):
                self.trace.unknown[(op, self._stack.path[-1])] += 1
            return op, "nonlinear"
        if op in ("max", "min") and not single:
            return f"a{op}", "pool"  # over a dimension, with indices; of two tensors it is an elementwise maximum
        if op == "setitem" and len(held) == 2:
            return op, self._written_class(held[0])
        if cls == "identity" and held and nodes[held[0]].floating and not facts(outs[0])["floating"]:
            return op, "nonlinear"  # a cast to whole numbers
        return op, cls

    def _product(self, op: str, held: tuple[int, ...], common: dict[str, Any], out: torch.Tensor) -> Node:
        nodes = self.trace.nodes
        ins = tuple(dict.fromkeys(h for h in held if nodes[h].role == "activation"))
        role = "activation" if ins else "param" if common["params"] else "const"
        cls = "scaled" if op == "mul" else "matrix"
        return self._add(op=op, cls=cls, args=held, ins=ins, shift=1, **{**common, "role": role}, **facts(out))

    def _rebind(self, tensor: torch.Tensor, node: Node, given: list[torch.Tensor], changed: list[torch.Tensor]) -> None:
        self._values[tensor] = node.i
        # A change in place through a view also changes the tensor that is viewed, which may itself be a view. More
        # than 8 views of views are not followed.
        seen = 0
        while any(tensor is c for c in changed) and seen < 8:
            base = self._values.base_of(tensor)
            if base is None or not share_memory(tensor, base):
                break  # a copy: ``x.clone()`` is no view of x
            old = self.node_of(base)
            nodes = self.trace.nodes
            ins = tuple(n for n in (old, node.i) if nodes[n].role == "activation")
            role = "activation" if ins else nodes[old].role
            node = self._add(
                op="slice_scatter", cls=self._written_class(old), args=(old, node.i), ins=ins, role=role,
                module=node.module, call=None, **facts(base),
            )  # fmt: skip
            self._values[base] = node.i
            changed = [*changed, base]
            tensor, seen = base, seen + 1

    def _written_class(self, old: int) -> str:
        """The class of a write into a part of a tensor: "cat" when the tensor holds only such writes, else "slice".

        ``out = torch.empty(…); out[:, :8] = a; out[:, 8:] = b`` is a concatenation.
        """
        node = self.trace.nodes[old]
        fresh = node.cls == "constant" or (node.cls == "cat" and node.op in ("slice_scatter", "setitem"))
        return "cat" if fresh else "slice"

    # -- things that count as one op ---------------------------------------------------------------
    @contextlib.contextmanager
    def whole_modules(self, model: nn.Module) -> Iterator[None]:
        """While this is entered, a module that a user's rule calls one op is recorded as that op.

        The calls it makes are counted, not recorded.
        """
        handles: list[Any] = []
        if self._rules.modules:
            for module in model.modules():
                key = self._rules.module_key(module)
                if key is not None:
                    self.met.add(key)
                    handles.append(module.register_forward_pre_hook(self._enter_module))
                    handles.append(module.register_forward_hook(self._leave_module, with_kwargs=True, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter_module(self, _module: nn.Module, _args: Any) -> None:
        self._silent += 1

    def _leave_module(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        self._silent -= 1
        if self._silent:
            return
        learned = (self._learned.get(id(p)) for p in module.parameters())
        self._stack.path.append(self._stack.names.get(id(module), self._stack.path[-1]))
        self._record(
            type(module).__name__, None, list(tensors_in((args, kwargs))), [], out, {}, args,
            self._rules.module(module), tuple(n for n in learned if n),
        )  # fmt: skip
        self._stack.path.pop()

    def functions(self) -> contextlib.AbstractContextManager[None]:
        """Sees the results of ``torch.autograd.Function``s, whose insides may be hidden from torch (NumPy, kernels)."""
        return shown_to(self)

    def function(self, cls: type, run: Any, args: Any, kwargs: Any) -> Any:
        """Runs an application of an autograd function, and records it where its insides did not show."""
        name = cls.__name__
        if self._inside or not self._entered:
            return run(*args, **kwargs)
        rule = self._rule(name)
        if callable(rule):
            return self._instead(name, rule, name, args, kwargs, popped=False)
        self._silent += rule is not None
        try:
            out = run(*args, **kwargs)
        finally:
            self._silent -= rule is not None
        if self._silent:
            return out
        given, outs = list(tensors_in((args, kwargs))), list(tensors_in(out))
        seen = [self._values.get(t) for t in outs]
        hidden = any(at is None or self.trace.nodes[at].role != "activation" for at in seen)
        moved = any(self.trace.nodes[self.node_of(t)].role == "activation" for t in given)
        if rule is None and outs and hidden and self._handed_on(given, outs):
            return out
        if rule is not None or (seen and hidden and moved):
            self._record(name, None, given, [], out, {}, args, rule)
        return out

    def _handed_on(self, given: list[torch.Tensor], outs: list[torch.Tensor], call: Address | None = None) -> bool:
        """Records a function that returns its arguments under other names, as those of torch's backward hooks do."""
        places = [place_of(t) for t in given]
        sources = [places.index(place) if (place := place_of(t)) is not None and place in places else -1 for t in outs]
        if any(k < 0 for k in sources):
            return False
        for tensor, k in zip(outs, sources, strict=True):
            held = self.node_of(given[k])
            if tensor is given[k] or self.trace.nodes[held].role != "activation":
                continue
            node = self._add(
                op="view_as", cls="identity", args=(held,), ins=(held,), role="activation",
                module=self._stack.path[-1], call=call, shift=k, given=len(given), **facts(tensor),
            )  # fmt: skip
            self._values[tensor] = node.i
        return True


class _Again:
    """Enters a mode inside its own ``__torch_function__``, for whose duration torch has popped it."""

    def __init__(self, mode: TorchFunctionMode) -> None:
        self._mode = mode

    def __enter__(self) -> None:
        TorchFunctionMode.__enter__(self._mode)

    def __exit__(self, *exc: Any) -> None:
        TorchFunctionMode.__exit__(self._mode, *exc)


class Surface(TorchDispatchMode):
    """Shows the recorder what is computed below it, in TorchScript programs and compiled extensions.

    A call that the recorder has seen runs with the recorder's mode popped. An op from below Python arrives here with
    that mode still in place, so that calling the op again from Python takes it through the recorder.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._recorder.below += 1
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._recorder.below -= 1
