"""How far weights and representations drift: they are copied once, and compared with the copy as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from skipgrad.core import MeasureError, SkipGraph
from skipgrad.core.drift import DriftReading, RepresentationDrift
from skipgrad.finder import Found, found_for
from skipgrad.instrument.tensors import mapped
from skipgrad.instrument.wrappers import unwrap
from skipgrad.probes.drift.compare import compare, cosine, over
from skipgrad.probes.drift.glance import Places, glance
from skipgrad.probes.drift.places import before, inputs, merges
from skipgrad.probes.drift.refuse import DOING, check, check_inner
from skipgrad.probes.drift.weights import put_back, weight_drift, weights_of


class Drift:
    """Copies weights and representations; `now` says how far they have come since.

    Representations are what the merges of the graph's skips return for `inputs`; of a net without skips, what its
    weighted layers take in. Each is compared with itself at the start, and with the latest one it was computed from.
    The forward is run in the mode each module is in now, here and at every `now`, with the same seed; in training mode
    batch norm uses the inputs' own statistics. Modes, buffers, ``.grad`` and random states are left as they were.

    It keeps a copy of the weights of the weighted layers, of `inputs` and of every representation. A `now` runs one
    forward, without a graph, and holds a copy of one representation more (of several where paths run side by side).

    Args:
        model: any module that `sg.find` reads; compiled or in DistributedDataParallel, too.
        graph: `sg.find`'s; its skips count, and no others. Found with `inputs` when None.
        inputs: what the forward takes, as a tuple; or as a dict, by name. Always the same, e.g. a batch held out.
        at: ``"merges"``, ``"layers"``, or None for the merges where there are skips.

    Raises:
        BadInput: an argument of the wrong kind.
        MeasureError: a model whose forward cannot be looked into, or that writes to its own weights.
        ModelError: the forward raised.

    Example:
        >>> import skipgrad as sg, torch, torchvision
        >>> from skipgrad.probes.drift import Drift
        >>> model, x = torchvision.models.resnet18(), torch.randn(4, 3, 64, 64)
        >>> drift = Drift(model, sg.find(model, x), (x,))
        >>> reading = drift.now()  # after some training
        >>> len(reading.weights), len(reading.representations), reading.adjacent_change
        (21, 8, 0.0)
    """

    def __init__(
        self,
        model: nn.Module,
        graph: SkipGraph | None,
        inputs: Any,
        *,
        at: Literal["merges", "layers"] | None = None,
    ) -> None:
        check(model, graph, inputs, at)
        self._model: nn.Module = unwrap(model)
        check_inner(self._model)
        given = ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})
        self._args, self._kwargs = mapped(given, lambda t: t.detach().clone())
        self._training = {name: module.training for name, module in self._model.named_modules()}
        self._notes: list[str] = []
        self._grad = False
        weights = {name: p.detach().clone() for name, p in self._model.named_parameters()}
        self._weights = weights_of(self._plan(graph, at, weights), weights)
        start = self._start
        self._start_pairs = {
            i: cosine(*compare(start[i], start[b])) for i, b in enumerate(self._before) if b is not None
        }

    def now(self) -> DriftReading:
        """The reading of this moment.

        Raises:
            MeasureError: the forward makes other calls than at the start, or weights are gone or of another shape.
        """
        figures: dict[int, tuple[float, float, float, float]] = {}
        held: dict[int, Tensor] = {}
        adjacent: dict[int, float] = {}
        waiting = {i: sum(b == i for b in self._before) for i in range(len(self._names))}

        def take(i: int, h: Tensor) -> None:
            if h.shape != self._start[i].shape:
                return  # found missing below
            figures[i] = compare(h, self._start[i])
            earlier = self._before[i]
            if earlier is not None and earlier in held:
                adjacent[i] = cosine(*compare(h, held[earlier]))
                waiting[earlier] -= 1
                if not waiting[earlier]:
                    del held[earlier]
            if waiting[i]:
                held[i] = h.clone()

        kept = glance(
            self._model, self._args, self._kwargs, self._places, take, grad=self._grad, training=self._training
        )
        if not kept or len(figures) != len(self._names):
            raise MeasureError(
                DOING,
                where=type(self._model).__name__,
                received="a forward that makes other calls than at the start",
                todo="take a new Drift: what was built anew has no representations at the start",
            )
        representations = tuple(
            RepresentationDrift(
                name=name,
                shape=tuple(self._start[i].shape),
                start_norm=figures[i][1],
                norm=figures[i][0],
                change=over(figures[i][2], figures[i][1]),
                cosine=cosine(*figures[i]),
                before=None if (b := self._before[i]) is None else self._names[b],
                adjacent_start=self._start_pairs.get(i),
                adjacent=adjacent.get(i),
            )
            for i, name in enumerate(self._names)
        )
        return DriftReading(self._at, weight_drift(self._model, self._weights), representations, tuple(self._notes))

    # -- the start -----------------------------------------------------------------------------------
    def _plan(self, graph: SkipGraph | None, at: str | None, weights: dict[str, Tensor]) -> Found:
        """Finds out where the representations are, and takes them down; returns the trace it was done on."""
        for how in ("", "real"):
            found = self._found(graph, how)
            names = [n for n in found.matches if graph is None or how or n in {s.name for s in graph.skips}]
            self._at = at or ("merges" if names else "layers")
            wanted, notes = merges(found, names, self._model) if self._at == "merges" else inputs(found, self._model)
            if not wanted:
                raise MeasureError(
                    DOING,
                    where=type(self._model).__name__,
                    received="; ".join(notes) or f"a net without {self._at}",
                    todo="at='layers'" if self._at == "merges" else "a net with weighted layers",
                )
            self._names = [name for name, _, _ in wanted]
            self._places = Places.of(found, [(place, node) for _, place, node in wanted])
            for grad in (False, True):  # a forward may ask whether gradients are on, and the trace was made with them
                start: dict[int, Tensor] = {}
                kept = glance(
                    self._model,
                    self._args,
                    self._kwargs,
                    self._places,
                    lambda i, h, start=start: start.__setitem__(i, h.clone()),
                    grad=grad,
                    training=self._training,
                )
                written = put_back(self._model, weights)
                if written:
                    raise MeasureError(
                        DOING,
                        where=type(self._model).__name__,
                        received=f"a forward that writes to its own weights ({', '.join(written[:3])})",
                        todo="measure the part of it that does not",
                    )
                if kept and len(start) == len(wanted):
                    self._start, self._grad = [start[i] for i in range(len(wanted))], grad
                    self._before = before(found, [node.i for _, _, node in wanted], self._start)
                    self._notes = [*notes, *(["traced anew: it looks at values"] if how else [])]
                    return found
        raise MeasureError(
            DOING,
            where=type(self._model).__name__,
            received="a forward that makes other calls at each run, or in another order",
            todo="fix what it depends on (a random depth, say), so that two runs do the same",
        )

    def _found(self, graph: SkipGraph | None, how: str) -> Found:
        found = found_for(graph, self._model, self._args, self._kwargs, how)
        lost = [s.name for s in graph.skips if s.name not in found.matches] if graph is not None else []
        if lost and not how:
            raise MeasureError(
                DOING,
                where=type(self._model).__name__,
                received=f"a graph of other skips ({', '.join(lost[:4])} …)",
                todo="pass sg.find(model, …) of this very model, or None",
            )
        return found
