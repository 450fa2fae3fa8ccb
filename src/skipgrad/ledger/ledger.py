"""The ledger of a watch: measures every skip and every weighted layer while a model trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from skipgrad.core import (
    BadInput,
    Ending,
    LayerRow,
    LossPoint,
    Measurements,
    ModelError,
    PathRow,
    PathSpectrum,
    SkipGraph,
    SkipRow,
    SourceRow,
    Thinned,
    ending,
)
from skipgrad.finder import is_tracing, signature
from skipgrad.instrument.patch import ForwardPatch
from skipgrad.instrument.wrappers import is_sharded, unwrap
from skipgrad.ledger.arrivals import backward_now
from skipgrad.ledger.kept import Feed, Kept
from skipgrad.ledger.kinds import Kinds
from skipgrad.ledger.mode import TapMode
from skipgrad.ledger.ranks import gathered
from skipgrad.ledger.recording import Recording
from skipgrad.ledger.reentrant import rerunning
from skipgrad.ledger.refuse import check_arguments, check_switch, other_transform
from skipgrad.ledger.steps import Steps

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
        optimizer: torch.optim.Optimizer | None = None,
        every: int = 1,
        *,
        recording: Recording | None = None,
        sources: bool = False,
        layers: bool = True,
    ) -> None:
        check_arguments(model, graph, every)
        check_switch("sources", sources)
        check_switch("layers", layers)
        self.notes: list[str] = []
        self._user_model = model
        self._inner = unwrap(model)
        self._optimizer = optimizer
        self._recording = Recording() if recording is None else recording
        self._kept = Kept(self._note)
        self._kinds = Kinds(model, self._inner, graph, self._note, sources=sources, layers=layers)
        self._steps = Steps(optimizer, every, self._kept, self._note, self._hand_on)
        self._patch: ForwardPatch | None = None
        self._busy = False
        self._named: dict[str, nn.Parameter] | None = None
        self._paths: dict[int, PathRow] = {}  # by step
        self._listeners: list[Listener] = []

    @property
    def graph(self) -> SkipGraph | None:
        """The skips watched; None until the first forward when the watch was given none."""
        return self._kinds.graph

    # -- the watch ---------------------------------------------------------------------------------
    def __enter__(self) -> Ledger:
        if self._patch is not None:
            raise BadInput(
                "entering a watch", received="one that is entered already", todo="make a new one: sg.watch(…)"
            )
        sharded = self._kinds.sharded = is_sharded(self._inner)
        if sharded:
            self._kinds.given_trace()
        self._recording.begin(self._rate())
        # Inside a forward ``fully_shard`` has other parameters in the place of these.
        self._named = dict(self._inner.named_parameters(remove_duplicate=False)) if sharded else None
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
        self._steps.end()
        self._kinds.end()
        made = self._steps.number if steps is None else steps
        with ExitStack() as stack:  # each of them, also when one of them raises
            stack.callback(self._recording.end, Ending(state, error), made, self.notes)
            self._hand_on()

    def scaled_by(self, scaler: Any) -> Ledger:
        """Names the ``GradScaler`` the loss is multiplied by; its factor is divided out of every figure."""
        self._steps.scaler = scaler
        return self

    def loss(self, value: float, seconds: float = 0.0) -> None:
        """Adds the loss of this step to what is diagnosed and written; a ledger cannot see losses, only gradients."""
        self.loss_at(LossPoint(0, self._steps.number, float(value), seconds))

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
        return Measurements(self.graph or SkipGraph(()), rows, layers, losses, notes, paths)

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

    def __repr__(self) -> str:
        skips = len(self.graph) if self.graph is not None else 0
        rows, layers = self._kept.counts
        kept = f", 1 in {t.every} steps kept" if (t := self._kept.thinned) is not None else ""
        return f"Ledger({skips} skips, {rows} skip rows, {layers} layer rows, step {self._steps.number}{kept})"

    # -- forwards ----------------------------------------------------------------------------------
    def _forward(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        # Busy: the model calls itself. Tracing: the finder runs the forward. Without gradients nothing can be read.
        if self._busy or is_tracing() or not torch.is_grad_enabled():
            return original(*args, **kwargs)
        inside = backward_now() >= 0
        if inside and not rerunning():  # non-reentrant checkpointing of the whole model: its first run is measured
            return original(*args, **kwargs)
        if not inside:
            self._steps.before_forward()
        if not self._steps.forward():
            return original(*args, **kwargs)
        other = other_transform()
        if other:
            self._note(f"a forward under {other} is not measured")
            return original(*args, **kwargs)
        key = signature(args, kwargs, self._inner.training)
        if key in self._kinds.given_up:
            return original(*args, **kwargs)
        try:
            mode = self._mode(key, args, kwargs)
        except ModelError:
            original(*args, **kwargs)  # raises what it raises for the user without a watch, if it does
            raise
        if mode is None:
            return original(*args, **kwargs)
        arrivals = self._steps.arrivals(mode.plan)
        mode.begin(arrivals, self._device())
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
            self._steps.waiting.append(arrivals)
            if inside:  # the second run of a reentrant checkpoint around the whole model: its backward comes right now
                arrivals.inside()
        else:
            arrivals.dropped = True
            if mode.unhooked:
                step = self._steps.number
                self._note(f"step {step}: a call built in another way than before; no figures for this forward")
            else:
                self._kinds.changed(key, mode, self._steps.number)
        return out

    def _mode(self, key: Any, args: Any, kwargs: Any) -> TapMode | None:
        if key in self._kinds.modes:
            return self._kinds.modes[key]
        mode = self._kinds.make(key, args, kwargs)
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
        self._recording.take(*news)
        if any(news):
            for listener in self._listeners:  # last, as a listener may raise
                listener(*news)

    def _rate(self) -> float:
        groups = getattr(self._optimizer, "param_groups", None) or [{}]
        return float(groups[0].get("lr") or 0.0)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _plain(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.__dataclass_fields__)
