"""Records the user's own forward while it runs, for a watch: what is called, and where autograd takes each call down.

Nothing else runs: no trace beforehand, no stand-ins. After the forward the skips are matched in what was recorded, and
hooks go on the autograd nodes of the calls that take their forks. What goes wrong in here is kept in `Tape.failed`; the
forward goes on as if there were no tape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch  # type: ignore[attr-defined]
from torch._C._autograd import _get_sequence_nr as _sequence_number
from torch._guards import CompileContext
from torch.utils.checkpoint import CheckpointFunction

from skipgrad.finder import ops
from skipgrad.finder.calls import facts
from skipgrad.finder.recorder import ACCESSORS, Met, Recorder
from skipgrad.finder.rules import NO_RULES, Rules
from skipgrad.finder.trace import Node
from skipgrad.instrument.calls import Address, function_name, meant
from skipgrad.instrument.tensors import first_of, mapped, tensors_in
from skipgrad.ledger.edges import LEAF, Target, target_of
from skipgrad.ledger.places import Places
from skipgrad.ledger.statistics import Square, mean_square

_UNSEEN = 1000  # nodes of autograd that are looked at for what made a tensor
# The classes of ops at which paths meet, and ops that write one tensor into another: what they take is a fork, or F.
_MERGES = frozenset({"add", "cat", "lerp", "stack", "unpool"})
_WRITES = ops.WRITES | {"copy", "slice_scatter", "select_scatter"}
_PRODUCTS = frozenset({"mul", "addcmul"})  # of two activations: a gate, and F


@dataclass(slots=True)
class Made:
    """A call as autograd knows it.

    Attributes:
        targets: per tensor argument, where edges to it lead; None where it needs no gradient.
        before: autograd numbers its nodes; the call's own have this number or a higher one.
        nodes: of what the call returned, each once.
        first: node and number of the first result; (None, 0) when it has none.
        off: whether gradients were off.
    """

    targets: tuple[Target | None, ...]
    before: int
    nodes: tuple[Any, ...]
    first: tuple[Any, int]
    off: bool


@dataclass(slots=True)
class Region:
    """The part of the forward inside a reentrant checkpoint, which runs again in the backward.

    Attributes:
        number: of the region in its forward, from 1.
        counts: calls before it, by name.
        applications: of autograd functions before it, by name.
        calls: its own, in order.
    """

    number: int
    counts: dict[str, int]
    applications: dict[str, int]
    calls: list[Address] = field(default_factory=list)


class Tape(Recorder):
    """Records a forward on real tensors.

    Args:
        places: the model's modules and tensors by their names.
        rules: the user's own.
        region: the part of a forward that is run again, where this is one.
        rerun: makes, of a region and the function that a reentrant checkpoint runs again, the function to run instead.

    Attributes:
        squares: node → the mean square of its value, of the values that may be a fork or an F.
        regions: call → the reentrant checkpoint it ran in.
        order: the calls of a region, in order.
        failed: what went wrong in the recording; "" when nothing did.
    """

    def __init__(
        self,
        places: Places,
        rules: Rules = NO_RULES,
        region: Region | None = None,
        rerun: Callable[[Region, Callable[..., Any]], Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__(places.learned, places, (), rules)
        self._applications: dict[str, int] = {}
        if region is not None:
            self.trace.calls.update(region.counts)
            self._applications.update(region.applications)
        self.squares: dict[int, Square] = {}
        self.regions: dict[Address, Region] = {}
        self.order: list[Address] = []
        self.failed = ""
        self._places = places
        self._rerun = rerun
        self._region: Region | None = None
        self._regions = 0
        self._sized = region is None  # else the sizes were taken down in the first run
        self._calls: dict[Address, Made] = {}
        self._by_edge: dict[tuple[Any, int], int] = {}  # where an edge leads -> the node whose value that is
        self._uses: dict[int, int] = {}  # node → how often its value was taken
        self._targets: tuple[Target | None, ...] = ()
        self._before = 0
        self._squared: list[int] = []  # the tensors of the last call whose mean square was taken
        self._used: list[int] = []  # the nodes that it was seen to use

    # -- calls -------------------------------------------------------------------------------------
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # A compiler that works inside the forward makes calls of its own.
        if torch.compiler.is_compiling() or CompileContext.current_compile_id() is not None:
            return func(*args, **kwargs)
        if self.failed:
            return meant(func)(*args, **kwargs)
        raw = function_name(func)
        if raw in ACCESSORS:
            return self._attribute(func, raw, args, kwargs)
        if self._silent:
            out = meant(func)(*args, **kwargs)
            self._safely(self._passed_over, raw, args, kwargs, out)
            return out
        met: Met | None = self._safely(self._meet, func, raw, args, kwargs)
        self._inside += 1
        try:
            out = meant(func)(*args, **kwargs)
        finally:
            self._inside -= 1
        if raw == "__iter__":
            out = list(out)
        if met is not None and not self.failed:
            if callable(met.rule):
                self._safely(self._stood_for, met, out)
            else:
                self._safely(self._made, met, out)
        return iter(out) if raw == "__iter__" else out

    def _safely(self, step: Callable[..., Any], *args: Any) -> Any:
        """Does something of ours; an error in it ends the recording, not the user's forward."""
        try:
            with torch._C.DisableTorchFunction():
                return step(*args)
        except Exception as error:  # noqa: BLE001 - whatever tensors of an unknown kind may raise when they are asked
            self.failed = f"{type(error).__name__}: {error}"
            return None

    def _attribute(self, func: Any, raw: str, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        if raw == "__get__" and isinstance(out, Tensor) and not self._silent and not self._inside:
            self._safely(self._viewed, args, kwargs, out)
        return out

    def _viewed(self, args: Any, kwargs: Any, out: Tensor) -> None:
        given = list(tensors_in((args, kwargs)))
        new = self._values.get(out) is None and id(out) not in self._learned
        if new and given and out is not given[0] and out.dim() and not (given[0].is_leaf and out is given[0].grad):
            self._record("T", None, given, [], out, {}, args)

    def _meet(self, func: Any, raw: str, args: Any, kwargs: Any) -> Met:
        met = super()._meet(func, raw, args, kwargs)
        self._look(met.given, met.op)
        return met

    def _look(self, given: list[Tensor], op: str) -> None:
        """Takes down what has to be known of tensors before a call takes them, as it may change them in place."""
        self._used, self._squared = [], []
        hidden = _functorch.peek_interpreter_stack() is not None
        self._targets = () if hidden else tuple(map(target_of, given))
        self._before = _sequence_number()
        cls = ops.class_of(op)
        if hidden or not self._sized or (cls is None and op):  # most such ops ask for a size or the like
            return
        nodes = self.trace.nodes
        held = [(pos, t, self.node_of(t)) for pos, t in enumerate(given) if t.is_floating_point()]
        held = [(pos, t, at) for pos, t, at in held if nodes[at].role == "activation"]
        merges = len(given) > 1 and (cls in _MERGES or op in _WRITES or (op in _PRODUCTS and len(held) > 1))
        for pos, tensor, at in held:
            uses = self._uses[at] = self._uses.get(at, 0) + 1
            self._used.append(at)
            node = nodes[at]
            # A fork is taken at least twice, a part of one at least once, and F at least once, by a merge.
            part = node.op == "output" or node.op in ops.SPLITS
            if (merges or part or uses > 1) and at not in self.squares:
                self.squares[at] = square_of(tensor)
                self._squared.append(pos)

    def _record(self, op: str, call: Address | None, given: list[Tensor], *rest: Any, **more: Any) -> None:
        results, many = rest[1], len(self.trace.nodes)
        super()._record(op, call, given, *rest, **more)
        if len(self.trace.nodes) == many:  # a dropout of 0, ``x.to(dtype)`` that had nothing to do: no use of x
            for at in self._used:
                self._uses[at] -= 1
            self._used = []
        if call is not None:
            self._keep(call, results)

    def made(self, call: Address) -> Made | None:
        """A call as autograd knows it; None when it was not made."""
        return self._calls.get(call)

    def _keep(self, call: Address, results: Any) -> None:
        if not self._sized:
            self.order.append(call)
        if self._region is not None:
            self._region.calls.append(call)
            self.regions[call] = self._region
        off = not torch.is_grad_enabled()
        if isinstance(results, Tensor):
            node, number = results.grad_fn, results.output_nr
            if node is not None and (at := self._values.get(results)) is not None:
                self._by_edge[node, number] = at
            nodes = () if node is None else (node,)
            self._calls[call] = Made(self._targets, self._before, nodes, (node, number), off)
            return
        first = first_of(results)
        outs = list(tensors_in(results))
        found = [t.grad_fn for t in outs]
        for t, node in zip(outs, found, strict=True):
            if node is not None and (at := self._values.get(t)) is not None:
                self._by_edge[node, t.output_nr] = at
        self._calls[call] = Made(
            self._targets,
            self._before,
            tuple(dict.fromkeys(n for n in found if n is not None)),
            (None, 0) if first is None else (first.grad_fn, first.output_nr),
            off,
        )

    # -- what is computed where nobody sees it ---------------------------------------------------------
    def node_of(self, tensor: Tensor) -> int:
        """The node whose value a tensor holds now."""
        at = self._values.get(tensor)
        if at is not None:
            return at
        if tensor.requires_grad and not tensor.is_leaf:
            self._unseen(tensor)
        return super().node_of(tensor)

    def _unseen(self, tensor: Tensor) -> None:
        """Records what made a tensor below Python (TorchScript, an extension) as one op, as autograd's graph has it."""
        if self._values.in_the_same_place(tensor) is not None:
            return
        sources: dict[int, Target | None] = {}
        weights: list[str] = []
        pending: list[Any] = [tensor.grad_fn]
        for node in pending:
            for below, number in node.next_functions:
                if below is None:
                    continue
                at, leaf = self._by_edge.get((below, number)), None
                if below.name() == LEAF:
                    leaf = below.variable
                    at = self._values.get(leaf)
                    if id(leaf) in self._learned:
                        weights.append(self._learned[id(leaf)])
                        continue
                if at is not None:
                    sources.setdefault(at, Target(None, 0, leaf) if leaf is not None else Target(below, number))
                elif leaf is None and len(pending) < _UNSEEN and below not in pending:
                    pending.append(below)
        if not sources and weights:  # what it was computed from needs no gradient: the model's input, most likely
            sources = {n.i: None for n in self.trace.nodes if n.op == "input"}
        ins = tuple(at for at in sources if self.trace.nodes[at].role == "activation")
        if not ins:
            return
        call = Address("unseen", self._applications.get("unseen", 0))
        self._applications["unseen"] = call.number + 1
        node = self._add(
            op="unseen", cls="nonlinear", args=tuple(sources), ins=ins, params=tuple(dict.fromkeys(weights)),
            role="activation", module=self._stack.path[-1], call=call, given=len(sources), **facts(tensor),
        )  # fmt: skip
        self._values[tensor] = node.i
        before = 1 + max((t.node._sequence_nr() for t in sources.values() if t and t.leaf is None), default=-1)
        first = tensor.grad_fn, tensor.output_nr
        self._calls[call] = Made(tuple(sources.values()), before, (tensor.grad_fn,), first, off=False)
        if not self._sized:
            self.order.append(call)

    # -- a user's function in an op's place ----------------------------------------------------------
    def _stood_for(self, met: Met, out: Any) -> None:
        """Records what a rule's function does in an op's place, on tensors without memory: the op itself has run."""
        made: dict[int, Tensor] = {}

        def stand_in(t: Tensor) -> Tensor:
            if id(t) not in made:
                made[id(t)] = t.detach().to("meta").requires_grad_(t.requires_grad and t.is_floating_point())
                self._values[made[id(t)]] = self.node_of(t)
            return made[id(t)]

        args, kwargs = mapped(met.args, stand_in), mapped(met.kwargs, stand_in)
        with torch._C._EnableTorchFunction():
            stood = self._instead(met.op, met.rule, met.raw, args, kwargs)
        for real, meta in zip(tensors_in(out), tensors_in(stood), strict=True):
            self._values[real] = self.node_of(meta)

    # -- autograd functions --------------------------------------------------------------------------
    def function(self, cls: type, run: Any, args: Any, kwargs: Any) -> Any:
        """Runs an application of an autograd function. To the ledger it is one call, whatever goes on inside."""
        if self.failed or self._inside or not self._entered or self._silent:
            return run(*args, **kwargs)
        checkpoint = cls is CheckpointFunction and self._rerun is not None and bool(args)
        if self._applied is not None or (checkpoint and self._region is not None):  # inside another one
            return run(*args, **kwargs)
        name = f"{cls.__name__}.apply"
        address = Address(name, self._applications.get(name, 0))
        self._applications[name] = address.number + 1
        given = list(tensors_in((args, kwargs)))
        self._safely(self._look, given, "")
        targets, before = self._targets, self._before
        try:
            if checkpoint:
                out = self._checkpointed(address, run, args, kwargs)
            else:
                self._applied = address
                out = run(*args, **kwargs)
        finally:
            self._applied = None
        if not self.failed:
            self._targets, self._before = targets, before
            self._safely(self._application, cls.__name__, address, given, out, args)
        return out

    def _application(self, name: str, address: Address, given: list[Tensor], out: Any, args: Any) -> None:
        outs = list(tensors_in(out))
        nodes = self.trace.nodes
        seen = [self._values.get(t) for t in outs]
        hidden = [at is None or nodes[at].role != "activation" for at in seen]
        held = tuple(self.node_of(t) for t in given)
        if not outs:
            return
        if any(hidden) and not self._handed_on(given, outs, address):
            if any(nodes[i].role == "activation" for i in held):
                self._record(name, address, given, [], out, {}, args, self._rule(name))
        else:
            self._keep(address, out)
        self.trace.applied[address] = held, tuple(self.node_of(t) for t in outs)

    def _checkpointed(self, address: Address, run: Any, args: Any, kwargs: Any) -> Any:
        """Runs a reentrant checkpoint: without a graph now, and again, with one, inside the backward."""
        assert self._rerun is not None
        self._regions += 1
        self._checkpoint = address
        self._region = Region(self._regions, dict(self.trace.calls), dict(self._applications))
        again = self._rerun(self._region, args[0])
        try:
            return run(again, *args[1:], **kwargs)
        finally:
            self._region = self._checkpoint = None

    # -- the forward as a whole ----------------------------------------------------------------------
    @contextlib.contextmanager
    def recording(self, model: nn.Module, args: Any, kwargs: Any) -> Iterator[None]:
        """Records what is called inside the block, in this thread."""
        for tensor in tensors_in((args, kwargs)):
            self.input(tensor)
        with self._places, self.functions(), self.whole_modules(model), self:
            yield

    def key(self) -> Any:
        """A key that is equal for two forwards in which the same was called, on values of the same kinds.

        Sizes that the inputs have (of a batch, of a sequence) may differ between the two.
        """
        inputs = [n for n in self.trace.nodes if n.op == "input"]
        batches = {n.shape[0] for n in inputs if n.shape and n.shape[0] > 1}
        lengths = {n.shape[1] for n in inputs if len(n.shape) in (2, 3) and n.shape[1] > 1}
        lengths |= {b * t for b in batches for t in lengths}
        return tuple([kind_of(node, batches, lengths) for node in self.trace.nodes])


def square_of(tensor: Tensor) -> Square:
    """The mean square of a value, in float64 where that is its own precision."""
    return mean_square(tensor, torch.float64 if tensor.dtype == torch.float64 else torch.float32)


def kind_of(n: Node, batches: Collection[int] = (), lengths: Collection[int] = ()) -> Any:
    """What a node is, but for sizes that the inputs have, and for where in memory it lies."""
    shape: tuple[Any, ...] = n.shape
    if shape and n.role == "activation":
        rest = tuple([-2 if size in lengths else size for size in shape[1:]])
        shape = (-1 if shape[0] in batches else -2 if shape[0] in lengths else shape[0], *rest)
    return (
        n.op, n.cls, n.role, n.args, n.ins, n.params, n.module, shape, n.dtype, n.call, n.result, n.inplace, n.number,
        n.scalar, n.second, n.dim, n.batched, n.shift, n.looked, n.within, n.region,
        n.lies and n.lies[1:],
    )  # fmt: skip
