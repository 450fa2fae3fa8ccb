"""The forwards that a watch has recorded: which skips ran in each, and how each kind of forward is measured."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from skipgrad.core import SkipGraph
from skipgrad.finder import NO_RULES, Found, Rules
from skipgrad.finder.build import build
from skipgrad.finder.run import weights_of
from skipgrad.instrument.tensors import describe, tensors_in
from skipgrad.ledger.memo import Memo
from skipgrad.ledger.memo_tape import MemoTape
from skipgrad.ledger.names import Names
from skipgrad.ledger.places import Places
from skipgrad.ledger.plan import TapPlan, make_plan
from skipgrad.ledger.tape import Tape

REMEMBERED = 8  # shapes of inputs of which the last forward is remembered
KEPT = 64  # kinds of forwards whose plans are kept; of one that comes back later the skips are matched anew


@dataclass
class Kind:
    """A kind of forward.

    Attributes:
        plan: how it is measured.
        skips: the skips that ran, by the names they go by.
    """

    plan: TapPlan
    skips: tuple[str, ...]


class Forwards:
    """Plans how each forward that was recorded is measured.

    Args:
        inner: the model itself.
        graph: the skips to measure, if they are known.
        note: takes what could not be measured.
        sources: of a concatenation of several, each is measured by itself, too.
        layers: the weighted layers are measured, too.

    Attributes:
        graph: the skips met so far, with those that the user gave; None until the first forward when none were given.
        rules: the user's own, by which the graph was found.
    """

    def __init__(
        self, inner: nn.Module, graph: SkipGraph | None, note: Callable[[str], None], *, sources: bool, layers: bool
    ) -> None:
        self.graph = graph
        found: Found | None = graph.found if graph is not None else None
        self.rules: Rules = (found.trace.rules or NO_RULES) if found is not None else NO_RULES
        self._inner, self._note = inner, note
        self._sources, self._layers = sources, layers
        self._kinds: OrderedDict[Any, Kind] = OrderedDict()
        self._memos: OrderedDict[Any, Memo] = OrderedDict()
        self._names = Names(graph)
        wanted = {s.name for s in graph.skips} if graph is not None else set()
        self._left_out = set(found.matches) - wanted if found is not None else set()

    def tape(self, places: Places, again: Callable[..., Any], args: Any, kwargs: Any) -> Tape:
        """What records a forward that is about to run; `again` is the tape's ``rerun``."""
        if self.rules.ops or self.rules.modules:
            return Tape(places, self.rules, rerun=again)
        return MemoTape(places, self.rules, again, self.memo(args, kwargs))

    def memo(self, args: Any, kwargs: Any) -> Memo | None:
        """The last forward on inputs like these."""
        return self._memos.get(_shapes(args, kwargs))

    def kind(self, tape: Tape, args: Any, kwargs: Any) -> tuple[Kind, bool]:
        """The kind of a forward, and whether it is a new one."""
        memo = tape.repeated() if isinstance(tape, MemoTape) else None
        key = tape.key() if memo is None else memo.key
        kind = self._kinds.get(key)
        new = kind is None
        if kind is None:
            kind = self._kinds[key] = self._planned(tape, args, kwargs)
            if len(self._kinds) > KEPT:
                self._kinds.popitem(last=False)
        self._kinds.move_to_end(key)
        if isinstance(tape, MemoTape) and memo is None:
            self._memos[_shapes(args, kwargs)] = Memo(tape.events, tape.trace.nodes, key, kind.plan.sized())
            if len(self._memos) > REMEMBERED:
                self._memos.popitem(last=False)
        return kind, new

    def _planned(self, tape: Tape, args: Any, kwargs: Any) -> Kind:
        trace = tape.trace
        trace.how, trace.training, trace.rules = "run", self._inner.training, self.rules
        trace.weights = weights_of(self._inner)
        graph = build(trace, model=type(self._inner).__name__, inputs=describe(args, kwargs))
        found: Found = graph.found  # type: ignore[assignment]
        names = self._names.of(graph)
        found = replace(found, matches={names[n]: m for n, m in found.matches.items()})
        skips = tuple(replace(s, name=names[s.name], previous=names.get(s.previous or "")) for s in graph.skips)
        self.graph = _united(self.graph, replace(graph, skips=skips, found=found), self._left_out)
        ran = tuple(s.name for s in skips if s.name not in self._left_out)
        plan = make_plan(found, set(ran), sources=self._sources, layers=self._layers)
        for name, reason in plan.refused.items():
            self._note(f"{name}: not measured: {reason}")
        return Kind(plan, ran)


def _shapes(args: Any, kwargs: Any) -> Any:
    return tuple([(tuple(t.shape), t.dtype) for t in tensors_in((args, kwargs))])


def _united(known: SkipGraph | None, met: SkipGraph, left_out: set[str]) -> SkipGraph:
    """The skips of a graph, and those that a later forward has besides."""
    if known is None:
        return met
    names = {s.name for s in known.skips}
    new = [s for s in met.skips if s.name not in names and s.name not in left_out]
    if not new:
        return known
    at = {layer.name: k for k, layer in enumerate(known.layers)}
    layers = list(known.layers)
    for k, layer in enumerate(met.layers):
        if layer.name not in at:
            before = next((at[m.name] + 1 for m in reversed(met.layers[:k]) if m.name in at), 0)
            layers.insert(before, layer)
            at = {m.name: i for i, m in enumerate(layers)}
    moved = [at[layer.name] for layer in known.layers]

    def placed(position: int, through: list[int]) -> int:
        return through[position - 1] + 1 if 0 < position <= len(through) else 0

    theirs = [at[layer.name] for layer in met.layers]
    skips = [
        *(replace(s, start=placed(s.start, moved), end=placed(s.end, moved)) for s in known.skips),
        *(replace(s, start=placed(s.start, theirs), end=placed(s.end, theirs)) for s in new),
    ]
    return replace(known, skips=tuple(sorted(skips, key=lambda s: (s.end, s.start))), layers=tuple(layers))
