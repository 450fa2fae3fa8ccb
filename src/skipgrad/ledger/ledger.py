"""The ledger of a watch: measures every skip and every weighted layer while a model trains."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from skipgrad.core import (
    Account,
    BadInput,
    ChangeRow,
    Cost,
    Ending,
    LayerRow,
    LossPoint,
    Measurements,
    PathRow,
    PathSpectrum,
    SkipgradError,
    SkipGraph,
    SkipRow,
    SourceRow,
    Thinned,
    ending,
)
from skipgrad.finder import is_tracing, signature
from skipgrad.instrument.faults import first_line
from skipgrad.instrument.patch import ForwardPatch
from skipgrad.instrument.wrappers import is_sharded, unwrap
from skipgrad.ledger.arrivals import backward_now
from skipgrad.ledger.attach import attach, sizes
from skipgrad.ledger.budget import Budget
from skipgrad.ledger.forwards import Forwards
from skipgrad.ledger.kept import Feed, Kept
from skipgrad.ledger.kinds import Kinds, is_compiled
from skipgrad.ledger.mode import TapMode
from skipgrad.ledger.optimizers import Optimizers
from skipgrad.ledger.places import Places
from skipgrad.ledger.ranks import gathered
from skipgrad.ledger.recording import Recording
from skipgrad.ledger.reentrant import Recorded, crossing, rerunning
from skipgrad.ledger.refuse import check_arguments, check_budget, check_switch, other_transform, scripted
from skipgrad.ledger.steps import Steps
from skipgrad.ledger.tape import Tape

if TYPE_CHECKING:
    import polars

# What `Ledger.on_rows` calls: with the skip rows, the layer rows and the losses that are new.
Listener = Callable[[list[SkipRow], list[LayerRow], list[LossPoint]], object]


class Ledger:
    """Rows of measurement, one per skip (`rows`) and one per weighted layer (`layers`) and step.

    Made by `watch`; a context manager. Inside it, run the training loop as ever.

    Attributes:
        notes: what could not be measured, and why.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: SkipGraph | None = None,
        optimizer: Any = None,
        every: int = 1,
        *,
        budget: float | None = None,
        recording: Recording | None = None,
        sources: bool = False,
        layers: bool = True,
    ) -> None:
        check_arguments(model, graph, every)
        check_budget(budget)
        check_switch("sources", sources)
        check_switch("layers", layers)
        self.notes: list[str] = []
        self._user_model = model
        self._inner = unwrap(model)
        self._optimizers = None if optimizer is None else Optimizers(optimizer)
        self._budget = Budget(budget, every)
        self._recording = Recording() if recording is None else recording
        self._kept = Kept(self._note)
        self._compiled = any(map(is_compiled, (model, *nn.Module.modules(self._inner))))
        wants = {"sources": sources, "layers": layers}
        # Into a compiled graph nobody sees while it runs: it is traced beforehand. Any other forward is recorded.
        self._kinds = Kinds(model, self._inner, graph, self._note, **wants) if self._compiled else None
        self._forwards = Forwards(self._inner, graph, self._note, **wants)
        self._steps = Steps(self._optimizers, self._budget, self._kept, self._note, self._hand_on)
        self._patch: ForwardPatch | None = None
        self._here = _Here()
        self._measured = self._left_out = 0
        self._reasons: Counter[str] = Counter()  # why forwards were not measured
        self._ran: Counter[str] = Counter()
        self._named: dict[str, nn.Parameter] | None = None
        self._paths: dict[int, PathRow] = {}  # by step
        self._changes: dict[int, ChangeRow] = {}
        self._listeners: list[Listener] = []

    @property
    def graph(self) -> SkipGraph | None:
        """The skips watched; None until the first forward when the watch was given none."""
        return self._forwards.graph if self._kinds is None else self._kinds.graph

    # -- the watch ---------------------------------------------------------------------------------
    def __enter__(self) -> Ledger:
        if self._patch is not None:
            raise BadInput(
                "entering a watch", received="one that is entered already", todo="make a new one: sg.watch(…)"
            )
        self._sharded = is_sharded(self._inner)
        if self._kinds is not None:
            self._kinds.sharded = self._sharded
            if self._sharded:
                self._kinds.given_trace()
        self._recording.begin(self._rate())
        # Inside a forward ``fully_shard`` has other parameters in the place of these.
        self._named = dict(self._inner.named_parameters(remove_duplicate=False)) if self._sharded else None
        # DistributedDataParallel calls its module; a compiled module is called itself.
        target = self._user_model
        if isinstance(target, nn.parallel.DistributedDataParallel):
            target = target.module
        self._patch = ForwardPatch(target, self._forward)
        self._steps.begin()
        return self

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        self.close(*ending(error))

    @property
    def is_open(self) -> bool:
        """Whether the watch is on."""
        return self._patch is not None

    def close(self, state: str = "done", error: str = "", steps: int | None = None) -> None:
        """Ends the watch: reads the last figures, and leaves model and optimizer as they were before it.

        Args:
            state: of the run, for its file: ``"done"``, ``"interrupted"`` or ``"failed"``.
            error: why it failed.
            steps: how many steps were made, where the loop counts them.
        """
        if self._patch is None:
            return
        self._patch.remove()
        self._patch = None
        self._steps.end(self._measured)
        if self._kinds is not None:
            self._kinds.end()
        made = self._steps.number if steps is None else steps
        with ExitStack() as stack:  # each of them, also when one of them raises
            stack.callback(self._recording.end, Ending(state, error), made, self.notes, self.account)
            self._hand_on()

    def scaled_by(self, scaler: Any) -> Ledger:
        """Names the ``GradScaler`` the loss is multiplied by; its factor is divided out of every figure."""
        self._steps.scaler = scaler
        return self

    def at(self, step: int) -> Ledger:
        """Counts from this step on: the optimizer's next step has this number. For a training that goes on."""
        self._steps.number = step
        return self

    @property
    def every(self) -> int:
        """One step in so many is measured; without effect where there is a budget."""
        return self._budget.every

    @every.setter
    def every(self, value: int) -> None:
        self._budget.every = value

    def loss(self, value: float, seconds: float = 0.0) -> None:
        """Adds the loss of this step to what is diagnosed and written; a ledger cannot see losses, only gradients.

        Called after the optimizer's step it is the loss of that step.
        """
        self._steps.flush()
        self._budget.loss(float(value))
        self.loss_at(LossPoint(0, self._steps.told, float(value), seconds))

    def loss_at(self, point: LossPoint) -> None:
        """Adds the loss of a step that is over."""
        self._kept.add_loss(point)

    def spectrum(self, spectrum: PathSpectrum) -> None:
        """Adds what `sg.path_spectrum` measured at this step to what is diagnosed and, inside the watch, written."""
        if not isinstance(spectrum, PathSpectrum):
            raise BadInput(
                "adding a path spectrum to a ledger",
                received=f"a {type(spectrum).__name__}",
                todo="pass what sg.path_spectrum(…) returned",
            )
        self._steps.flush()
        self.spectrum_at(PathRow(self._steps.number, spectrum))

    def spectrum_at(self, row: PathRow) -> None:
        """Adds what `sg.path_spectrum` measured at a step that is over."""
        self._paths[row.step] = row
        self._recording.paths(row)

    def change_at(self, row: ChangeRow) -> None:
        """Adds what a step changed of the branches (`skipgrad.remedies.changes`) to what is diagnosed and written."""
        self._changes[row.step] = row
        self._recording.changes(row)

    def on_rows(self, listener: Listener) -> Ledger:
        """Calls ``listener(skip_rows, layer_rows, losses)`` after each step, and at the end, with what is new."""
        self._listeners.append(listener)
        return self

    def feed(self) -> Feed:
        """A feed that collects every row from now on; ``feed.take()`` gives those that are new since the last call.

        It is for users of rows who need them before the step is over, or less often than after each step.
        """
        self._steps.flush()
        return self._kept.feed(self._steps.flush)

    # -- what was measured -------------------------------------------------------------------------
    def rows(self) -> list[SkipRow]:
        """One `SkipRow` per skip and backward measured so far, in order.

        A long watch has more rows than memory should hold: over 524,288, skips and layers together, and over 16 steps.
        Of such a watch the rows of evenly spaced steps are given, as `skipgrad.store.read_run` gives them: every 2nd
        step, later every 4th, 8th …; with the first step, the newest, the first that was not finite, and one row of
        every later step that was not finite. `thinned` tells which steps. Listeners (`on_rows`), a `feed` and the run
        file get every row.
        """
        self._steps.flush()
        return self._kept.skips

    def layers(self) -> list[LayerRow]:
        """One `LayerRow` per weighted layer and step measured so far, in order; of a long watch as in `rows`."""
        self._steps.flush()
        return self._kept.layers

    def sources(self) -> list[SourceRow]:
        """With ``sources=True``: one `SourceRow` per source of a concatenation of several and backward, in order.

        Of a long watch only those steps have them whose rows are all kept.
        """
        self._steps.flush()
        return self._kept.sources

    @property
    def thinned(self) -> Thinned | None:
        """The steps that `rows` and `layers` are of; None while they are of all steps."""
        self._steps.flush()
        return self._kept.thinned

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

    def source_frame(self) -> polars.DataFrame:
        """The rows of `sources` as a polars frame."""
        import polars

        rows = [_plain(r) for r in self.sources()]
        return polars.DataFrame(rows, schema=list(SourceRow.__dataclass_fields__), orient="row")

    def measurements(self) -> Measurements:
        """`rows`, `layers` and all losses, as `sg.diagnose` takes them."""
        rows, layers = tuple(self.rows()), tuple(self.layers())
        paths = tuple(self._paths[step] for step in sorted(self._paths))
        losses, notes = tuple(self._kept.losses), tuple(self.notes)
        changes = tuple(self._changes[step] for step in sorted(self._changes))
        return Measurements(
            self.graph or SkipGraph(()), rows, layers, losses, notes, paths, self.account, changes=changes
        )  # fmt: skip

    def reduced(self, group: Any = None, *, mean: bool = True) -> Measurements:
        """What one process with the whole batch would have measured. A collective call: every rank has to make it.

        One rank's rows are of its own part of the batch; after ``fully_shard`` of its own part of the weights, too.

        Args:
            group: the process group; the default one when None.
            mean: the ranks' gradients are averaged, as DistributedDataParallel and ``fully_shard`` do; else added up.

        Raises:
            MeasureError: there is no process group.
        """
        return gathered(self.measurements(), group, mean=mean, sharded=is_sharded(self._inner))

    @property
    def cost(self) -> Cost:
        """What measuring has cost so far."""
        return self._budget.cost

    @property
    def account(self) -> Account:
        """What became of every forward so far."""
        self._steps.flush()
        steps = self._steps
        ran = {s.name: 0 for s in self.graph.skips} if self.graph is not None else {}
        ran.update(self._ran)
        return Account(
            forwards=steps.forwards,
            measured=self._measured,
            left_out=self._left_out,
            unmeasured=dict(self._reasons),
            backwards=steps.backwards,
            without=self._measured - steps.brought,
            ran=ran,
            rows=dict(steps.rows),
            layers=self._layers(),
            cost=self.cost,
        )

    def _layers(self) -> dict[str, str]:
        """Each weighted layer → whether a gradient ever came to its weights, and if not, why."""
        weights = self._named or dict(nn.Module.named_parameters(self._inner, remove_duplicate=False))
        met = self._steps.followed
        out: dict[str, str] = {}
        for layer, names in met.items():
            asks = any(weights[n].requires_grad for n in names if n in weights)
            out[layer] = "reached" if layer in self._steps.reached else "not reached" if asks else "frozen"
        ran = {n for names in met.values() for n in names}
        for name, weight in weights.items():
            if name not in ran and weight.dim() > 1 and ran:
                out.setdefault(name.rpartition(".")[0] or name, "not run" if weight.requires_grad else "frozen")
        return out

    def __repr__(self) -> str:
        skips = len(self.graph) if self.graph is not None else 0
        rows, layers = self._kept.counts
        kept = f", 1 in {t.every} steps kept" if (t := self._kept.thinned) is not None else ""
        return f"Ledger({skips} skips, {rows} skip rows, {layers} layer rows, step {self._steps.number}{kept})"

    # -- forwards ----------------------------------------------------------------------------------
    def _forward(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # Without gradients nothing can be read. Busy: the model calls itself. Tracing: the finder runs the forward.
        if not torch.is_grad_enabled() or self._here.busy or is_tracing():
            return original(*args, **kwargs)
        inside = backward_now() >= 0
        if inside and not rerunning():  # non-reentrant checkpointing of the whole model: its first run is measured
            return original(*args, **kwargs)
        with self._steps.lock:
            if not inside:
                self._steps.before_forward()
            chosen = self._steps.forward()
            self._left_out += not chosen
        if not chosen:
            return original(*args, **kwargs)
        other = other_transform()
        if other:
            self._reasons[f"under {other}"] += 1
            self._note(f"a forward under {other} is not measured")
            return original(*args, **kwargs)
        if self._kinds is not None:
            return self._tapped(self._kinds, original, args, kwargs, inside)
        return self._recorded(original, args, kwargs, inside)

    def _recorded(self, original: Callable[..., Any], args: Any, kwargs: Any, inside: bool) -> Any:
        """Runs a forward, recording what it calls; hooks the autograd nodes of its skips when it has returned."""
        whole = Recorded(self._inner, self._sharded, self._forwards.rules)
        tape = self._forwards.tape(Places(self._inner, cut=self._sharded), whole.again, args, kwargs)
        self._here.busy = True
        try:
            with tape.recording(self._inner, args, kwargs):
                out = original(*args, **kwargs)
        except BaseException:
            self._reasons["it raised"] += 1
            raise
        finally:
            self._here.busy = False
        try:
            with self._steps.lock:
                self._measure(tape, whole, args, kwargs, inside)
        except Exception as error:  # noqa: BLE001 - nothing of ours may end a training
            self._unmeasured(f"{type(error).__name__}: {first_line(error)}")
        return out

    def _measure(self, tape: Tape, whole: Recorded, args: Any, kwargs: Any, inside: bool) -> None:
        if tape.failed:
            self._unmeasured(tape.failed)
            return
        kind, new = self._forwards.kind(tape, args, kwargs)
        if new:
            if below := scripted(self._inner):
                shown = ", ".join(below[:4]) + (" …" if len(below) > 4 else "")
                self._note(f"TorchScript programs, inside which nothing is seen: {shown}")
            self._steps.follow(self._inner, kind.plan, self._named)
            if self.graph is not None:
                self._recording.graph(self.graph)
        arrivals = self._steps.arrivals(kind.plan)
        sizes(kind.plan, tape, arrivals)
        arrivals.refused.update(crossing(kind.plan, tape))
        attach(kind.plan, tape, arrivals)
        whole.arrivals = arrivals
        self._steps.waiting.append(arrivals)
        self._measured += 1
        self._ran.update(kind.skips)
        if inside:  # the second run of a reentrant checkpoint around the whole model: its backward comes right now
            arrivals.inside()

    def _unmeasured(self, reason: str) -> None:
        self._reasons[f"could not be recorded ({reason})"] += 1
        self._note(f"step {self._steps.number}: the forward could not be recorded ({reason}); no figures for it")

    def _tapped(self, kinds: Kinds, original: Callable[..., Any], args: Any, kwargs: Any, inside: bool) -> Any:
        """Runs a compiled forward, with taps around the calls that its trace foretells."""
        key = signature(args, kwargs, self._inner.training)
        if key in kinds.given_up:
            self._reasons[_NO_TRACE] += 1
            return original(*args, **kwargs)
        try:
            mode = self._mode(kinds, key, args, kwargs)
        except SkipgradError as error:
            self._reasons["could not be traced"] += 1
            kinds.given_up.add(key)
            self._note(f"this kind of forward is not measured: {error}")
            return original(*args, **kwargs)
        if mode is None:
            self._reasons[_NO_TRACE] += 1
            return original(*args, **kwargs)
        arrivals = self._steps.arrivals(mode.plan)
        mode.begin(arrivals, self._device())
        self._here.busy = True
        try:
            with mode:
                out = original(*args, **kwargs)
        except BaseException:
            mode.end()
            self._reasons["it raised"] += 1
            raise
        finally:
            self._here.busy = False
        if mode.end():
            self._steps.waiting.append(arrivals)
            self._measured += 1
            self._ran.update(s.name for s in mode.plan.skips)
            if inside:
                arrivals.inside()
        else:
            arrivals.dropped = True
            self._reasons[_NO_TRACE] += 1
            kinds.changed(key, mode, self._steps.number)
        return out

    def _mode(self, kinds: Kinds, key: Any, args: Any, kwargs: Any) -> TapMode | None:
        if key in kinds.modes:
            return kinds.modes[key]
        mode = kinds.make(key, args, kwargs)
        if mode is not None:
            self._steps.follow(self._inner, mode.plan, self._named)
            if self.graph is not None:
                self._recording.graph(self.graph)
        return mode

    def _device(self) -> torch.device:
        for p in self._inner.parameters():
            return p.device
        return torch.device("cpu")

    # -- who is told -------------------------------------------------------------------------------
    def push(self) -> None:
        """Hands on what is new (a loss that was told after its step, say) to run file, writers and listeners."""
        self._steps.flush()
        self._hand_on()

    def _hand_on(self) -> None:
        news = self._kept.take()
        self._recording.take(*news, account=lambda: self.account)
        if any(news):
            for listener in self._listeners:  # last, as a listener may raise
                listener(*news)

    def _rate(self) -> float:
        return 0.0 if self._optimizers is None else self._optimizers.rate

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


_NO_TRACE = "made other calls than its trace"


class _Here(threading.local):
    """What the watch is doing in this thread.

    Attributes:
        busy: whether a forward of the model runs, so that a call of the model inside it is a part of that.
    """

    busy = False


def _plain(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.__dataclass_fields__)
