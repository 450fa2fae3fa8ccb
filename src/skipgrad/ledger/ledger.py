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
    SkipGraph,
    SkipRow,
    Trial,
)
from skipgrad.finder import NO_RULES, Found, find_in_call, is_tracing, signature, unwrap
from skipgrad.ledger.mode import Slots, TapMode
from skipgrad.ledger.patch import ForwardPatch
from skipgrad.ledger.plan import Plan, make_plan
from skipgrad.ledger.rows import read
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
        if not isinstance(model, nn.Module):
            raise BadInput(
                "watching a model", received=f"a {type(model).__name__}", todo="pass the torch.nn.Module you call"
            )
        if graph is not None and not isinstance(graph, SkipGraph):
            raise BadInput(
                "watching a model",
                received=f"a {type(graph).__name__} as graph",
                todo="pass what sg.find(...) returned",
            )
        if not isinstance(every, int) or every < 1:
            raise BadInput("watching a model", received=f"every={every!r}", todo="pass a whole number from 1 on")
        for kind in (torch.jit.ScriptModule, nn.DataParallel):
            if isinstance(model, kind):
                raise MeasureError(
                    "watching a model",
                    received=f"a {kind.__name__}, whose forward does not run in Python in this thread",
                    todo="watch the plain module (DistributedDataParallel is fine)",
                )
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
        self._pending: list[tuple[Plan, Slots, float]] = []  # with the factor on the loss at the time
        self._step = 0
        self._micro = 0
        self._skips: list[SkipRow] = []
        self._layers: list[LayerRow] = []
        self._losses: list[LossPoint] = []
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
        if self._run is not None:
            meta = {"model": type(self._inner).__name__, "state": "running", "torch": torch.__version__}
            self._writer = RunWriter.create(self._run, meta)
            self._writer.trial(Trial(0, None, float(self._rate() or 0.0), 0, 0, measured=True))
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
        if self._pending:
            self._note(f"{len(self._pending)} forwards were followed by no backward and left no rows")
            self._pending.clear()
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
        if self._optimizer is None and self._arrived:
            self._close_step({})
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
        return Measurements(self.graph or SkipGraph(()), rows, layers, tuple(self._losses), tuple(self.notes))

    def __repr__(self) -> str:
        skips = len(self.graph) if self.graph is not None else 0
        return f"Ledger({skips} skips, {len(self._skips)} skip rows, {len(self._layers)} layer rows, step {self._step})"

    # -- forwards ----------------------------------------------------------------------------------
    def _forward(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._busy or is_tracing() or not torch.is_grad_enabled():
            return original(*args, **kwargs)
        self._flush()
        self._forwards += 1
        if self._step % self._every:
            if self._optimizer is None:
                self._step += 1  # the number of the backward is the step: an unmeasured forward counts as one
            return original(*args, **kwargs)
        other = _other_transform()
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
        plan = mode.plan
        slots = Slots(plan, self._device())
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
        if mode.end():
            scale = float(self._scaler.get_scale()) if self._scaler is not None else 1.0
            self._pending.append((plan, slots, scale))
        else:
            self._changed(mode, args, kwargs)
        return out

    def _mode(self, args: Any, kwargs: Any) -> TapMode | None:
        key = signature(args, kwargs, self._inner.training)
        if key in self._modes:
            return self._modes[key]
        graph = self.graph
        found: Found | None = graph.trace if graph is not None else None
        if found is None or found.trace.signature != key or found.trace.how == "fake" or key in self._failed:
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
        plan = make_plan(found, only)
        failed = self._failed.get(key)
        if failed is not None and failed.sites == plan.sites:
            self._given_up.add(key)
            self._note("a new trace is no better, so this kind of forward is not measured from here on")
            return None
        for name, reason in plan.refused.items():
            self._note(f"{name}: not measured: {reason}")
        model = self._user_model
        mode = TapMode(plan, compiled=hasattr(model, "_orig_mod") or "_compiled_call_impl" in model.__dict__)
        self._modes[key] = mode
        self._follow(plan)
        if self._writer is not None:
            self._writer.graph(self.graph)
            self._writer.commit()
        return mode

    def _find(self, args: Any, kwargs: Any, how: str) -> SkipGraph:
        TapMode.paused = True
        try:
            found: Found | None = self.graph.trace if self.graph is not None else None
            rules = found.trace.rules if found is not None else NO_RULES
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
        self._weights = WeightWatch(self._inner, layers)

    # -- backwards and steps -----------------------------------------------------------------------
    def _flush(self) -> None:
        """Reads the slots a backward has been through."""
        waiting: list[tuple[Plan, Slots, float]] = []
        for plan, slots, scale in self._pending:
            if not slots.arrived():
                waiting.append((plan, slots, scale))
                continue
            if self._optimizer is None and self._arrived:
                self._close_step({})
            figures = read(plan, slots, step=self._step, micro=self._micro, scale=scale)
            self._skips += figures.skips
            for name, reason in figures.missing.items():
                self._note(f"{name}: not measured: {reason}")
            depths = {name.split("#")[0]: depth for name, depth, _ in reversed(plan.layers)}
            for layer, (size, finite) in figures.layers.items():
                _, before, fine = self._arrived.get(layer, (0, 0.0, True))
                self._arrived[layer] = (depths[layer], (before**2 + size**2) ** 0.5, fine and finite)
            if self._optimizer is None:
                self._close_step(self._weights.norms() if self._weights is not None else {})
                self._step += 1
            else:
                self._micro += 1
        self._pending = waiting
        if self._optimizer is None:
            self._tell()

    def _before_step(self, closure: bool) -> None:
        self._flush()
        self._closure = closure
        # With a closure, forward and backward are still to come, inside the step.
        if self._weights is not None and (self._arrived or (closure and self._step % self._every == 0)):
            self._weights.keep()
            self._stats = {} if closure else self._weights.norms()

    def _after_step(self) -> None:
        self._flush()
        if self._arrived and self._weights is not None:
            stats = self._weights.norms() if self._closure else self._stats
            self._weights.moved(stats)
            self._close_step(stats)
        self._stats = {}
        self._step += 1
        self._micro = 0
        # A forward still waiting belongs to a step that is over.
        self._pending.clear()
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


def _other_transform() -> str:
    """What else than plain autograd is at work on this forward, if anything."""
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return "torch.func (grad, vmap)"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return "torch.jit.trace"
    return "torch.export" if torch.compiler.is_exporting() else ""


def _has_closure(args: Any, kwargs: Any) -> bool:
    """Whether ``step`` was given a closure; the optimizer itself is the first of its arguments."""
    given = args[1] if len(args) > 1 else kwargs.get("closure")
    return given is not None


def _plain(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.__dataclass_fields__)
