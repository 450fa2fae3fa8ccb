"""The ledger of a watch: measures every skip and every weighted layer while a model trains."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from skipgrad.core import (
    BadInput,
    LayerRow,
    LossPoint,
    MeasureError,
    Measurements,
    ModelError,
    PathRow,
    PathSpectrum,
    SkipGraph,
    SkipRow,
    Trial,
)
from skipgrad.finder import NO_RULES, Found, find_in_call, is_tracing, signature, unwrap
from skipgrad.ledger.mode import TapMode
from skipgrad.ledger.patch import ForwardPatch
from skipgrad.ledger.plan import Plan, make_plan
from skipgrad.ledger.ranks import gathered, is_sharded
from skipgrad.ledger.reentrant import rerunning
from skipgrad.ledger.refuse import check_arguments, other_transform, scripted
from skipgrad.ledger.rows import read
from skipgrad.ledger.slots import Arrivals, Slots, backward_now, rows_of
from skipgrad.ledger.weights import WeightStats, WeightWatch
from skipgrad.store import RunWriter

if TYPE_CHECKING:
    import polars

# What `Ledger.on_rows` calls: with the skip rows, the layer rows and the losses that are new.
Listener = Callable[[list[SkipRow], list[LayerRow], list[LossPoint]], object]


class Ledger:
    """Rows of measurement, one per skip (`rows`) and one per weighted layer (`layers`) and step.

    Made by `watch`; a context manager. Inside it, run the training loop as ever.

    Attributes:
        graph: the skips watched; None until the first forward when the watch was given none.
        notes: what could not be measured, and why.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: SkipGraph | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        every: int = 1,
        run: str | Path | None = None,
    ) -> None:
        check_arguments(model, graph, every)
        self.graph = graph
        self.notes: list[str] = []
        self._user_model = model
        self._inner = unwrap(model)
        self._optimizer = optimizer
        self._every = every
        self._run = run
        self._writer: RunWriter | None = None
        self._modes: dict[Any, TapMode] = {}
        self._given_up: set[Any] = set()
        self._failed: dict[Any, Plan] = {}  # the last plan of a kind of forward that its run did not keep to
        self._patch: ForwardPatch | None = None
        self._hooks: list[Any] = []
        self._busy = False
        self._inbox: list[Arrivals] = []  # forwards to which a backward has brought figures
        self._waiting: list[Arrivals] = []  # forwards since the last step
        self._scale: float | None = None  # the scaler's at the last forward
        self._unstepped: list[int] = []  # steps the scaler did not let the optimizer take
        self._sharded = False
        self._named: dict[str, nn.Parameter] | None = None
        self._since = 0  # forwards since the last step
        self._step = 0
        self._micro = 0
        self._skips: list[SkipRow] = []
        self._layers: list[LayerRow] = []
        self._losses: list[LossPoint] = []
        self._paths: dict[int, PathRow] = {}  # by step
        self._written = [0, 0, 0]
        self._told = [0, 0, 0]
        self._listeners: list[Listener] = []
        self._arrived: dict[str, tuple[int, float, bool]] = {}  # layer -> depth, ‖dL/dz‖ of the step so far, finite
        self._weights: WeightWatch | None = None
        self._stats: dict[str, WeightStats] = {}
        self._forwards = 0
        self._closure = False
        self._scaler: Any = None

    # -- the watch ---------------------------------------------------------------------------------
    def __enter__(self) -> Ledger:
        if self._patch is not None:
            raise BadInput(
                "entering a watch", received="one that is entered already", todo="make a new one: sg.watch(…)"
            )
        self._sharded = is_sharded(self._inner)
        if self._sharded:
            self._given_trace()
        if self._run is not None:
            meta = {"model": type(self._inner).__name__, "state": "running", "torch": torch.__version__}
            self._writer = RunWriter.create(self._run, meta)
            self._writer.trial(Trial(0, None, float(self._rate() or 0.0), 0, 0, measured=True))
        # Inside a forward ``fully_shard`` has other parameters in the place of these.
        self._named = dict(self._inner.named_parameters(remove_duplicate=False)) if self._sharded else None
        # DistributedDataParallel calls its module; a compiled module is called itself.
        target = self._user_model
        if isinstance(target, nn.parallel.DistributedDataParallel):
            target = target.module
        self._patch = ForwardPatch(target, self._forward)
        if self._optimizer is not None:
            # The optimizer holds its hooks; they hold the ledger only weakly.
            me: weakref.ref[Ledger] = weakref.ref(self)
            self._hooks = [
                self._optimizer.register_step_pre_hook(
                    lambda _o, args, kwargs: _call(me, Ledger._before_step, _has_closure(args, kwargs))
                ),
                self._optimizer.register_step_post_hook(lambda *_: _call(me, Ledger._after_step)),
            ]
        return self

    def __exit__(self, kind: Any, *_exc: object) -> None:
        self.close("interrupted" if kind is not None else "done")

    def close(self, state: str = "done") -> None:
        """Ends the watch: the last figures are read, the model and the optimizer are as they were."""
        if self._patch is None:
            return
        self._patch.remove()
        self._patch = None
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._flush()
        self._skipped_step()
        if self._unstepped:
            first = ", ".join(map(str, self._unstepped[:6])) + (" …" if len(self._unstepped) > 6 else "")
            self._note(f"the GradScaler let {len(self._unstepped)} steps pass without moving a weight ({first})")
            self._unstepped.clear()
        idle = sum(not a.seen for a in self._waiting)
        if idle:
            self._note(f"{idle} forwards were followed by no backward and left no rows")
        self._waiting.clear()
        if self._arrived:
            # A backward no step followed: a loss that is not finite, or the end of the loop.
            self._close_step(self._weights.norms() if self._weights is not None else {})
        if self._forwards == 0:
            self._note(
                "no forward of the watched model was seen: call the very object given to sg.watch, with gradients on"
            )
        if self._writer is not None:
            self._write()
            for note in self.notes:
                self._writer.note(note)
            if self.graph is not None:
                self._writer.graph(self.graph)
            self._writer.trial(Trial(0, None, float(self._rate() or 0.0), 0, self._step, measured=True, state=state))
            self._writer.meta(state=state, steps=self._step)
            self._writer.close()
            self._writer = None
        for mode in self._modes.values():
            mode.end()
        self._modes.clear()
        self._weights = None
        self._tell()  # last, as a listener may raise

    def scaled_by(self, scaler: Any) -> Ledger:
        """Names the ``GradScaler`` the loss is multiplied by; its factor is divided out of every figure."""
        self._scaler = scaler
        return self

    def loss(self, value: float, seconds: float = 0.0) -> None:
        """Adds the loss of this step to what is diagnosed and written; a ledger sees gradients, not losses."""
        self.loss_at(LossPoint(0, self._step, float(value), seconds))

    def loss_at(self, point: LossPoint) -> None:
        """The same, for a step that is over."""
        self._losses.append(point)

    def spectrum(self, spectrum: PathSpectrum) -> None:
        """Adds what `sg.path_spectrum` measured at this step to what is diagnosed and, inside the watch, written."""
        if not isinstance(spectrum, PathSpectrum):
            raise BadInput(
                "adding a path spectrum to a ledger",
                received=f"a {type(spectrum).__name__}",
                todo="pass what sg.path_spectrum(…) returned",
            )
        self._flush()
        self.spectrum_at(PathRow(self._step, spectrum))

    def spectrum_at(self, row: PathRow) -> None:
        """The same, for a step that is over."""
        self._paths[row.step] = row
        if self._writer is not None:
            self._writer.paths(0, [row])

    def on_rows(self, listener: Listener) -> Ledger:
        """Calls ``listener(skip_rows, layer_rows, losses)`` after each step, and at the end, with what is new."""
        self._listeners.append(listener)
        return self

    # -- what was measured -------------------------------------------------------------------------
    def rows(self) -> list[SkipRow]:
        """One `SkipRow` per skip and backward measured so far, in order."""
        self._flush()
        return list(self._skips)

    def layers(self) -> list[LayerRow]:
        """One `LayerRow` per weighted layer and step measured so far, in order."""
        self._flush()
        return list(self._layers)

    def frame(self) -> polars.DataFrame:
        """The skip rows as a polars frame; `layer_frame` has the layers'."""
        import polars  # a tenth of a second that a training loop need not pay

        return polars.DataFrame(
            [_plain(r) for r in self.rows()], schema=list(SkipRow.__dataclass_fields__), orient="row"
        )

    def layer_frame(self) -> polars.DataFrame:
        """The layer rows as a polars frame."""
        import polars

        rows = [_plain(r) for r in self.layers()]
        return polars.DataFrame(
            rows, schema=list(LayerRow.__dataclass_fields__), orient="row", infer_schema_length=None
        )

    def measurements(self) -> Measurements:
        """All of it, as `sg.diagnose` takes it."""
        rows, layers = tuple(self.rows()), tuple(self.layers())
        paths = tuple(self._paths[step] for step in sorted(self._paths))
        return Measurements(self.graph or SkipGraph(()), rows, layers, tuple(self._losses), tuple(self.notes), paths)

    def reduced(self, group: Any = None, *, mean: bool = True) -> Measurements:
        """What one process with the whole batch would have measured; a collective call that every rank makes.

        A rank's own rows are of its own part of the batch, and, after ``fully_shard``, of its own part of the weights.

        Args:
            group: the process group; the default one when None.
            mean: the ranks' gradients are averaged, as DistributedDataParallel and ``fully_shard`` do; else added up.

        Raises:
            MeasureError: there is no process group.
        """
        return gathered(self.measurements(), group, mean=mean, sharded=is_sharded(self._inner))

    def __repr__(self) -> str:
        skips = len(self.graph) if self.graph is not None else 0
        return f"Ledger({skips} skips, {len(self._skips)} skip rows, {len(self._layers)} layer rows, step {self._step})"

    # -- forwards ----------------------------------------------------------------------------------
    def _forward(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._busy or is_tracing() or not torch.is_grad_enabled():
            return original(*args, **kwargs)
        inside = backward_now() >= 0
        if inside and not rerunning():  # non-reentrant checkpointing of the whole model: its first run is measured
            return original(*args, **kwargs)
        if not inside:
            self._flush()
            self._skipped_step()
        self._forwards += 1
        self._since += 1
        if self._step % self._every:
            if self._optimizer is None:
                self._step += 1  # the number of the backward is the step: an unmeasured forward counts as one
            return original(*args, **kwargs)
        other = other_transform()
        if other:
            self._note(f"a forward under {other} is not measured")
            return original(*args, **kwargs)
        if signature(args, kwargs, self._inner.training) in self._given_up:
            return original(*args, **kwargs)
        try:
            mode = self._mode(args, kwargs)
        except ModelError:
            original(*args, **kwargs)  # raises what it raises for the user without a watch, if it does
            raise
        if mode is None:
            return original(*args, **kwargs)
        arrivals = Arrivals(mode.plan, self._factor(), self._forwards, self._inbox)
        slots = Slots(arrivals, self._device())
        if mode.compiled:
            slots.keep_sizes()
        mode.begin(slots)
        self._busy = True
        try:
            with mode:
                out = original(*args, **kwargs)
        except BaseException:
            mode.end()
            raise
        finally:
            self._busy = False
        if mode.off:
            self._note("a fork ran with gradients off (torch.no_grad, or a checkpoint that is not torch's own)")
        if mode.end():
            self._waiting.append(arrivals)
            if inside:
                arrivals.inside()
        else:
            arrivals.dropped = True
            self._changed(mode, args, kwargs)
        return out

    def _factor(self) -> float:
        """What the loss is multiplied by."""
        if self._scaler is not None:
            return float(self._scaler.get_scale())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
                self._note(
                    "float16 autocast, and no GradScaler was named: if you use one, call ledger.scaled_by(scaler), "
                    "as the figures are of the scaled loss"
                )
        return 1.0

    def _mode(self, args: Any, kwargs: Any) -> TapMode | None:
        key = signature(args, kwargs, self._inner.training)
        if key in self._modes:
            return self._modes[key]
        graph = self.graph
        found: Found | None = graph.trace if graph is not None else None
        if self._sharded:
            found = self._given_trace(key)
        elif found is None or found.trace.signature != key or found.trace.how == "fake" or key in self._failed:
            graph = self._find(args, kwargs, "real" if key in self._failed else "foretell")
            found = graph.trace
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
        hidden: frozenset[tuple[str, int]] = frozenset()
        if not isinstance(self._inner, torch.fx.GraphModule):  # whose calls are all Python's
            hidden = frozenset(n.call for n in found.trace.nodes if n.below and n.call is not None)
        plan = make_plan(found, only, hidden=hidden)
        if hidden and plan.refused and not plan.skips:
            where = ", ".join(n or "the model itself" for n in scripted(self._inner)[:4]) or "a compiled extension"
            raise MeasureError(
                f"watching {type(self._inner).__name__}",
                received=f"skips that all run below Python, where nothing can be tapped ({where})",
                todo="watch the module the TorchScript program was made from",
            )
        failed = self._failed.get(key)
        if failed is not None and failed.sites == plan.sites:
            self._given_up.add(key)
            self._note("a new trace is no better, so this kind of forward is not measured from here on")
            return None
        for name, reason in plan.refused.items():
            self._note(f"{name}: not measured: {reason}")
        mode = TapMode(plan, compiled=any(map(_is_compiled, (self._user_model, *self._user_model.modules()))))
        self._modes[key] = mode
        self._follow(plan)
        if self._writer is not None:
            self._writer.graph(self.graph)
            self._writer.commit()
        return mode

    def _given_trace(self, key: Any = None) -> Found:
        """The trace of the graph given: a model whose weights are cut up cannot be traced."""
        found: Found | None = self.graph.trace if self.graph is not None else None
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

    def _find(self, args: Any, kwargs: Any, how: str) -> SkipGraph:
        TapMode.paused = True
        try:
            found: Found | None = self.graph.trace if self.graph is not None else None
            rules = found.trace.rules if found is not None else NO_RULES
            # Hooks that are about (a checkpoint around the whole model) are not to see what the trace saves.
            with torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):
                return find_in_call(self._inner, args, kwargs, how=how, rules=rules)
        finally:
            TapMode.paused = False

    def _changed(self, mode: TapMode, args: Any, kwargs: Any) -> None:
        """The forward made other calls than its trace: its figures are dropped, and it is traced anew."""
        expected = mode.plan.expected
        differing = [
            f"{n} {mode.counts.get(n, 0)}× (traced {k}×)" for n, k in expected.items() if mode.counts.get(n) != k
        ]
        if not differing:
            differing = ["in another order, or on tensors of another kind"]
        self._note(
            f"step {self._step}: the forward made other calls than its trace ({'; '.join(differing[:3])}); "
            "no figures for this forward, traced anew before the next"
        )
        key = signature(args, kwargs, self._inner.training)
        del self._modes[key]
        self._failed[key] = mode.plan

    def _device(self) -> torch.device:
        for p in self._inner.parameters():
            return p.device
        return torch.device("cpu")

    def _follow(self, plan: Plan) -> None:
        layers: dict[str, tuple[str, ...]] = {}
        for name, _, weights in plan.layers:
            layers.setdefault(name.split("#")[0], weights)
        self._weights = WeightWatch(self._inner, layers, self._named)

    # -- backwards and steps -----------------------------------------------------------------------
    def _flush(self) -> None:
        """Reads what backwards have brought."""
        if backward_now() >= 0:
            return  # the rest of it is still to come
        taken = [(number, a) for a in self._inbox for number in a.grads]
        self._inbox.clear()
        taken.sort(key=lambda t: (t[0], t[1].number))
        for k, (number, arrivals) in enumerate(taken):
            grads = arrivals.grads.pop(number)
            if arrivals.dropped:
                continue
            plan = arrivals.plan
            figures = read(
                plan, rows_of(plan, grads), arrivals.refused, step=self._step, micro=self._micro, scale=arrivals.scale
            )
            self._skips += figures.skips
            for name, reason in figures.missing.items():
                self._note(f"{name}: not measured: {reason}")
            depths = {name.split("#")[0]: depth for name, depth, _ in reversed(plan.layers)}
            for layer, (size, finite) in figures.layers.items():
                _, before, fine = self._arrived.get(layer, (0, 0.0, True))
                self._arrived[layer] = (depths[layer], (before**2 + size**2) ** 0.5, fine and finite)
            self._micro += 1
            if self._optimizer is None and (k + 1 == len(taken) or taken[k + 1][0] != number):
                # Without an optimizer a step is a backward, through however many forwards.
                self._close_step(self._weights.norms() if self._weights is not None else {})
                self._step += 1
                self._micro = 0
                self._waiting.clear()
        if self._optimizer is None:
            self._write()
            self._tell()

    def _skipped_step(self) -> None:
        """Closes a step that the scaler did not let the optimizer take; nothing but its factor tells."""
        if self._scaler is None:
            return
        scale = float(self._scaler.get_scale())
        fell = self._scale is not None and scale < self._scale
        self._scale = scale
        if self._optimizer is None or not fell or not self._since:
            return
        self._unstepped.append(self._step)
        stats = self._weights.norms() if self._weights is not None else {}
        for entry in stats.values():
            entry.update_norm = 0.0
        self._close_step(stats)
        self._next_step()

    def _before_step(self, closure: bool) -> None:
        self._flush()
        self._closure = closure
        # With a closure, forward and backward are still to come, inside the step.
        if self._weights is not None and (self._arrived or (closure and self._step % self._every == 0)):
            self._weights.keep()
            factor = getattr(self._optimizer, "grad_scale", None)  # a fused step divides it out itself
            self._stats = {} if closure else self._weights.norms(1.0 if factor is None else float(factor))

    def _after_step(self) -> None:
        self._flush()
        if self._arrived and self._weights is not None:
            stats = self._weights.norms() if self._closure else self._stats
            self._weights.moved(stats)
            self._close_step(stats)
        self._stats = {}
        self._next_step()

    def _next_step(self) -> None:
        self._step += 1
        self._micro = self._since = 0
        self._waiting.clear()  # a forward still waiting belongs to a step that is over
        self._write()
        self._tell()

    def _close_step(self, stats: dict[str, WeightStats]) -> None:
        for layer, (depth, size, finite) in self._arrived.items():
            entry = stats.get(layer)
            self._layers.append(
                LayerRow(
                    step=self._step,
                    layer=layer,
                    depth=depth,
                    out_grad_norm=size,
                    weight_norm=entry.weight_norm if entry else float("nan"),
                    weight_grad_norm=entry.weight_grad_norm if entry else None,
                    update_norm=entry.update_norm if entry else None,
                    stalled=entry.stalled if entry else None,
                    zero_grad=entry.zero_grad if entry else None,
                    weights=entry.weights if entry else 0,
                    dtype=entry.dtype if entry else "",
                    finite=finite and (entry.finite if entry else True),
                )
            )
        self._arrived.clear()

    # -- the run file ------------------------------------------------------------------------------
    def _write(self) -> None:
        if self._writer is None:
            return
        a, b, c = self._written
        self._writer.skip_rows(0, self._skips[a:])
        self._writer.layer_rows(0, self._layers[b:])
        self._writer.losses(self._losses[c:])
        self._written = [len(self._skips), len(self._layers), len(self._losses)]
        self._writer.commit()

    def _tell(self) -> None:
        a, b, c = self._told
        self._told = [len(self._skips), len(self._layers), len(self._losses)]
        skips, layers, losses = self._skips[a:], self._layers[b:], self._losses[c:]
        if skips or layers or losses:
            for listener in self._listeners:
                listener(skips, layers, losses)

    def _rate(self) -> float | None:
        return self._optimizer.param_groups[0].get("lr") if self._optimizer is not None else None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _call(ref: weakref.ref[Ledger], method: Callable[..., None], *args: Any) -> None:
    ledger = ref()
    if ledger is not None:
        method(ledger, *args)


def _but_for_dtypes(key: Any) -> Any:
    """A signature without dtypes: mixed precision casts what it is given."""
    spec, leaves, training = key
    return spec, tuple(leaf[0] if isinstance(leaf, tuple) else leaf for leaf in leaves), training


def _as_it_is(value: Any) -> Any:
    return value


def _is_compiled(model: nn.Module) -> bool:
    return hasattr(model, "_orig_mod") or model.__dict__.get("_compiled_call_impl") is not None


def _has_closure(args: Any, kwargs: Any) -> bool:
    """Whether ``step`` was given a closure; the optimizer itself is the first of its arguments."""
    given = args[1] if len(args) > 1 else kwargs.get("closure")
    return given is not None


def _plain(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.__dataclass_fields__)
