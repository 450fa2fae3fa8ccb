"""The kinds of forwards that a watch has met. Each kind is traced once, and measured by a `TapMode` of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skipgrad.core import MeasureError, SkipGraph
from skipgrad.finder import NO_RULES, Found, find_in_call
from skipgrad.instrument.calls import Address
from skipgrad.instrument.patch import compiled_call
from skipgrad.ledger.mode import TapMode
from skipgrad.ledger.plan import TapPlan, make_plan
from skipgrad.ledger.refuse import scripted


class Kinds:
    """Makes the modes. Two forwards are of one kind when `skipgrad.finder.signature` gives them the same *key*.

    Args:
        called: the model as the user calls it.
        inner: the model itself.
        graph: the skips to measure, if they are known.
        note: takes what could not be measured.
        sources: of a concatenation of several, each is measured by itself, too.
        layers: the weighted layers are measured, too.

    Attributes:
        graph: the skips watched; None until the first mode is made when none was given.
        modes: of the kinds met so far.
        given_up: keys of the kinds that are not measured any more.
        sharded: whether ``fully_shard`` has cut up the model's weights, so that the model cannot be traced.
    """

    def __init__(
        self,
        called: nn.Module,
        inner: nn.Module,
        graph: SkipGraph | None,
        note: Callable[[str], None],
        *,
        sources: bool = False,
        layers: bool = True,
    ) -> None:
        self.graph = graph
        self.modes: dict[Any, TapMode] = {}
        self.given_up: set[Any] = set()
        self.sharded = False
        self._sources, self._layers = sources, layers
        self._called, self._inner, self._note = called, inner, note
        self._failed: dict[Any, TapPlan] = {}  # the last plan of a kind of forward that its run did not keep to

    def make(self, key: Any, args: Any, kwargs: Any) -> TapMode | None:
        """Makes the mode of a kind that has none (any more); None when the kind is given up.

        Raises:
            ModelError: the model's forward raised while it was traced.
            MeasureError: a graph of other skips, or skips that all run where nothing can be tapped.
        """
        graph = self.graph
        found: Found | None = graph.found if graph is not None else None
        if self.sharded:
            found = self.given_trace(key)
        elif found is None or found.trace.signature != key or found.trace.how == "fake" or key in self._failed:
            # A run that did not keep to its trace may have looked at values, which only a real run has.
            graph = self._find(args, kwargs, "real" if key in self._failed else "foretell")
            found = graph.found
        assert found is not None
        assert graph is not None
        if self.graph is None:
            self.graph = graph
        # After a change of the control flow the new trace's skips are measured, whatever they are called.
        only = {s.name for s in (graph if key in self._failed else self.graph).skips}
        lost = only - found.matches.keys()
        if lost and len(lost) == len(only):
            raise MeasureError(
                f"watching {type(self._inner).__name__}",
                received=f"a graph of other skips ({', '.join(sorted(lost)[:4])} …)",
                todo="pass sg.find(model, …) of this very model",
            )
        for name in sorted(lost):
            self._note(f"{name}: in the graph given, not in this forward; not measured")
        hidden: frozenset[Address] = frozenset()
        if not isinstance(self._inner, torch.fx.GraphModule):  # whose calls are all Python's
            hidden = frozenset(n.call for n in found.trace.nodes if n.below and n.call is not None)
        plan = make_plan(found, only, hidden=hidden, sources=self._sources, layers=self._layers)
        if hidden and plan.refused and not plan.skips:
            where = ", ".join(n or "the model itself" for n in scripted(self._inner)[:4]) or "a compiled extension"
            raise MeasureError(
                f"watching {type(self._inner).__name__}",
                received=f"skips that all run below Python, where nothing can be tapped ({where})",
                todo="watch the module the TorchScript program was made from",
            )
        failed = self._failed.get(key)
        if failed is not None and failed.sites == plan.sites:
            self.given_up.add(key)
            self._note("a new trace is no better, so this kind of forward is not measured from here on")
            return None
        for name, reason in plan.refused.items():
            self._note(f"{name}: not measured: {reason}")
        mode = TapMode(plan)
        self.modes[key] = mode
        return mode

    def given_trace(self, key: Any = None) -> Found:
        """The trace in the graph that the user gave; used where the model's weights are cut up and it cannot be traced.

        Raises:
            MeasureError: there is none, or it is of another kind of forward than `key`.
        """
        found: Found | None = self.graph.found if self.graph is not None else None
        received = ""
        if found is None:
            received = "a graph without a trace (read from a file)" if self.graph is not None else "no graph"
        elif key is not None and _but_for_dtypes(found.trace.signature) != _but_for_dtypes(key):
            received = "a graph found with another kind of input, or in the other mode"
        elif key in self._failed:
            received = "a forward that makes other calls than the graph's"
        if received or found is None:
            raise MeasureError(
                f"watching {type(self._inner).__name__}, whose weights fully_shard has cut up",
                received=received,
                todo="call graph = sg.find(model, x) before fully_shard, in the same mode, and pass it to sg.watch",
            )
        return found

    def changed(self, key: Any, mode: TapMode, step: int) -> None:
        """Called when a forward made other calls than its trace: forgets the mode, so that the kind is traced anew."""
        differing = mode.plan.route.differing(mode.counts) or ["in another order, or on tensors of another kind"]
        self._note(
            f"step {step}: the forward made other calls than its trace ({'; '.join(differing[:3])}); "
            "no figures for this forward, traced anew before the next"
        )
        del self.modes[key]
        self._failed[key] = mode.plan

    def end(self) -> None:
        """Ends all modes."""
        for mode in self.modes.values():
            mode.end()
        self.modes.clear()

    def _find(self, args: Any, kwargs: Any, how: str) -> SkipGraph:
        TapMode.paused = True
        try:
            found: Found | None = self.graph.found if self.graph is not None else None
            rules = found.trace.rules if found is not None else NO_RULES
            # A checkpoint around the whole model has hooks for saved tensors. They must not see those of our forward.
            with torch.autograd.graph.saved_tensors_hooks(_without_graph, _as_it_is):
                return find_in_call(self._inner, args, kwargs, how=how, rules=rules)
        finally:
            TapMode.paused = False


def _but_for_dtypes(key: Any) -> Any:
    """A signature without dtypes: mixed precision casts what it is given."""
    spec, leaves, training = key
    return spec, tuple(leaf[0] if isinstance(leaf, tuple) else leaf for leaf in leaves), training


def _without_graph(value: torch.Tensor) -> torch.Tensor:
    """What a node saves, without its graph. A node that saves its own result would else keep itself alive for good."""
    with torch._C.DisableTorchFunction():
        return value.detach()


def _as_it_is(value: Any) -> Any:
    return value


def is_compiled(model: nn.Module) -> bool:
    """Whether a module is called through ``torch.compile``."""
    return hasattr(model, "_orig_mod") or compiled_call(model) is not None
