"""Makes the rows of a step from what backwards bring; knows when a step is over and what it did to the weights."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skipgrad.core import LayerRow, SkipRow
from skipgrad.ledger.arrivals import Arrivals, backward_now
from skipgrad.ledger.budget import Budget
from skipgrad.ledger.kept import Kept
from skipgrad.ledger.optimizers import Optimizers
from skipgrad.ledger.plan import TapPlan
from skipgrad.ledger.rows import read
from skipgrad.ledger.source_rows import read_sources
from skipgrad.ledger.weights import WeightStats, WeightWatch


class Steps:
    """Counts forwards, backwards and steps, and reads the figures of each.

    Args:
        optimizers: those whose steps are counted; without any every backward is a step.
        budget: decides which steps are measured.
        kept: takes the rows.
        note: takes a sentence on what could not be measured.
        ended: called when steps are over and their rows are in `kept`.

    Attributes:
        number: the number of the step that is going on.
        forwards: how many forwards there were.
        backwards: how many backwards brought figures.
        brought: to how many forwards.
        asked: how many forwards were differentiated by ``torch.autograd.grad`` alone.
        lock: held while steps are counted and read; several threads may run the model.
        rows: skip → how many rows it has.
        followed: layer → its weights.
        reached: the layers whose weights had a gradient at the end of a step.
        waiting: the arrivals of the forwards since the last step.
        scaler: the ``GradScaler`` that multiplies the loss, if the user named one.
    """

    def __init__(
        self,
        optimizers: Optimizers | None,
        budget: Budget,
        kept: Kept,
        note: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self.number = 0
        self.forwards = 0
        self.waiting: list[Arrivals] = []
        self.scaler: Any = None
        self.lock = threading.RLock()
        self.backwards = self.brought = 0
        self._optimizer, self._budget = optimizers, budget
        self._measuring = True
        self._kept, self._note, self._ended = kept, note, ended
        self._inbox: list[Arrivals] = []  # forwards to which a backward has brought figures
        self._scale: float | None = None  # the scaler's at the last forward
        self.rows: dict[str, int] = {}
        self.asked = 0
        self._unstepped: list[int] = []  # steps the scaler did not let the optimizer take
        self._since = 0  # forwards since the last step
        self._micro = 0
        self._arrived: dict[str, tuple[int, float, bool]] = {}  # layer -> depth, ‖dL/dz‖ of the step so far, finite
        self._weights: WeightWatch | None = None
        self.followed: dict[str, tuple[str, ...]] = {}
        self.reached: set[str] = set()
        self._stats: dict[str, WeightStats] = {}
        self._closure = False

    # -- forwards ----------------------------------------------------------------------------------
    def begin(self) -> None:
        """The watch begins."""
        if self._optimizer is not None:
            # The optimizer holds its hooks; they hold this only weakly.
            me: weakref.ref[Steps] = weakref.ref(self)
            self._optimizer.follow(
                lambda closure: _call(me, Steps._before_step, closure), lambda: _call(me, Steps._after_step)
            )

    def before_forward(self) -> None:
        """Called before a forward that is not inside a backward: whatever went before it is over."""
        # In this order: the figures of a step that the scaler left out must be read before that step is closed.
        if self._inbox or self.scaler is not None:
            self.flush()
            self._skipped_step()

    def forward(self) -> bool:
        """Counts a forward; whether it is to be measured."""
        self.forwards += 1
        if not self._since:
            self._measuring = self._budget.begin(self.number)
        self._since += 1
        if not self._measuring and self._optimizer is None:
            self.number += 1  # the number of the backward is the step: an unmeasured forward counts as one
            self._since = 0
        return self._measuring

    @property
    def told(self) -> int:
        """The step that a loss told now is of: the one that is going on, or the last where none has begun since."""
        return self.number - 1 if self.number and not self._since else self.number

    def arrivals(self, plan: TapPlan) -> Arrivals:
        """Where the figures of the forward that begins will arrive."""
        return Arrivals(plan, self._factor(), self.forwards, self._inbox, self._fresh)

    def follow(self, inner: nn.Module, plan: TapPlan, named: dict[str, nn.Parameter] | None) -> None:
        """Follows the weights of a plan's layers, beside those that are followed already."""
        many = len(self.followed)
        for name, _, weights in plan.layers:
            self.followed.setdefault(name.split("#")[0], weights)
        if self._weights is None or len(self.followed) > many:
            self._weights = WeightWatch(inner, self.followed, named)

    def _factor(self) -> float:
        """What the loss is multiplied by."""
        if self.scaler is not None:
            return float(self.scaler.get_scale())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
                self._note(
                    "float16 autocast, and no GradScaler was named: if you use one, call ledger.scaled_by(scaler), "
                    "as the figures are of the scaled loss"
                )
        return 1.0

    # -- backwards and steps -----------------------------------------------------------------------
    def flush(self) -> None:
        """Reads what backwards have brought."""
        if backward_now() < 0:  # else the rest of it is still to come
            with self.lock:
                self._flush()

    def _flush(self) -> None:
        # What a backward of another thread is still bringing stays.
        taken = [(number, a) for a in list(self._inbox) for number in a.over()]
        # By backward, then by forward, as `micro` counts them; the inbox is in the order in which gradients arrived.
        taken.sort(key=lambda t: (t[0], t[1].number))
        for k, (number, arrivals) in enumerate(taken):
            fresh, ended = arrivals.parts[number].fresh, arrivals.parts[number].ended
            rows = arrivals.taken(number)
            if not arrivals.parts:
                self._inbox.remove(arrivals)
            if arrivals.dropped:
                continue
            if not ended:
                self.brought += not arrivals.told
                arrivals.told = True
                self._note(f"step {self.number}: a backward was broken off by an error; its figures are left out")
                continue
            self.brought += not arrivals.told
            arrivals.told = True
            begins = k == 0 or taken[k - 1][0] != number
            self.backwards += begins
            # Inside a step that was given a closure, backwards follow one another.
            if begins and fresh and self._micro and self._optimizer is not None and not self._closure:
                self._thrown_away()
            plan = arrivals.plan
            figures = read(plan, rows, arrivals.refused, step=self.number, micro=self._micro, scale=arrivals.scale)
            self._kept.add_skips(figures.skips)
            self._count(figures.skips)
            sources, without = read_sources(plan, rows, figures.skips, scale=arrivals.scale)
            self._kept.add_sources(sources)
            for name, reason in (figures.missing | without).items():
                self._note(f"{name}: not measured: {reason}")
            # Reversed, so that a layer that is called several times keeps the depth of its first call.
            depths = {name.split("#")[0]: depth for name, depth, _ in reversed(plan.layers)}
            for layer, (size, finite) in figures.layers.items():
                _, before, fine = self._arrived.get(layer, (0, 0.0, True))
                self._arrived[layer] = (depths[layer], (before**2 + size**2) ** 0.5, fine and finite)
            self._micro += 1
            if self._optimizer is None and (k + 1 == len(taken) or taken[k + 1][0] != number):
                # Without an optimizer a step is a backward, through however many forwards.
                self._close_step(self._weights.norms() if self._weights is not None else {})
                self.number += 1
                self._micro = self._since = 0
                self._forget()
        if self._optimizer is None:
            self._ended()

    def _count(self, rows: list[SkipRow]) -> None:
        for row in rows:
            self.rows[row.skip] = self.rows.get(row.skip, 0) + 1
        if rows:
            self._budget.norm(max(r.total_norm for r in rows))

    def _thrown_away(self) -> None:
        """A backward has begun on weights without a gradient: what the backwards before it brought led to no step.

        A generator's pass through the discriminator, the first half of a step of SAM.
        """
        self._note(
            f"step {self.number}: a backward whose gradients were cleared before the optimizer stepped (zero_grad) "
            "counts as a step of its own, which moved no weight"
        )
        self._close_step({})
        self.number += 1
        self._micro = 0

    def _fresh(self) -> bool:
        """Whether the weights have no gradient as yet."""
        return self._weights is not None and self._weights.fresh()

    def _forget(self) -> None:
        """Lets go of the forwards of a step that is over."""
        self.asked += sum(not a.seen and a.passed_over >= 0 for a in self.waiting)
        self.waiting.clear()

    def _skipped_step(self) -> None:
        """Closes a step that the scaler did not let the optimizer take.

        No hook of the optimizer runs then; the only sign is that the scaler's factor has fallen.
        """
        if self.scaler is None:
            return
        scale = float(self.scaler.get_scale())
        fell = self._scale is not None and scale < self._scale
        self._scale = scale
        if self._optimizer is None or not fell or not self._since:
            return
        self._unstepped.append(self.number)
        stats = self._weights.norms() if self._weights is not None else {}
        for entry in stats.values():
            entry.update_norm = 0.0
        self._close_step(stats)
        self._next_step()

    def _before_step(self, closure: bool) -> None:
        self.flush()
        self._closure = closure
        # With a closure, forward and backward are still to come, inside the step.
        if self._weights is not None and (self._arrived or (closure and self._measuring)):
            self._weights.keep()
            factor = self._optimizer.grad_scale if self._optimizer is not None else None
            self._stats = {} if closure else self._weights.norms(1.0 if factor is None else float(factor))

    def _after_step(self) -> None:
        self.flush()
        if self._arrived and self._weights is not None:
            stats = self._weights.norms() if self._closure else self._stats
            self._weights.moved(stats)
            self._close_step(stats)
        self._stats = {}
        self._next_step()

    def _next_step(self) -> None:
        self.number += 1
        self._micro = self._since = 0
        self._forget()  # a forward still waiting belongs to a step that is over
        self._ended()

    def _close_step(self, stats: dict[str, WeightStats]) -> None:
        self.reached.update(layer for layer, entry in stats.items() if entry.weight_grad_norm is not None)
        rows: list[LayerRow] = []
        for layer, (depth, size, finite) in self._arrived.items():
            entry = stats.get(layer)
            rows.append(
                LayerRow(
                    step=self.number,
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
        self._kept.add_layers(rows)
        self._arrived.clear()

    # -- the end -----------------------------------------------------------------------------------
    def end(self, measured: int) -> None:
        """Ends the watch: reads the last figures and takes the hooks off the optimizer.

        Args:
            measured: how many forwards were measured.
        """
        if self._optimizer is not None:
            self._optimizer.leave()
        self.flush()
        self._budget.stop()
        self._skipped_step()
        if self._unstepped:
            first = ", ".join(map(str, self._unstepped[:6])) + (" …" if len(self._unstepped) > 6 else "")
            self._note(f"the GradScaler let {len(self._unstepped)} steps pass without moving a weight ({first})")
            self._unstepped.clear()
        self._forget()
        if self.asked:
            self._note(
                f"{self.asked} forwards were differentiated by torch.autograd.grad only, which is not taken for the "
                "training's backward and leaves no rows; call loss.backward()"
            )
        idle = measured - self.brought - self.asked
        if idle > 0:
            self._note(f"{idle} forwards were followed by no backward and left no rows")
        if self._arrived:
            # A backward no step followed: a loss that is not finite, or the end of the loop.
            self._close_step(self._weights.norms() if self._weights is not None else {})
        if self.forwards == 0:
            self._note(
                "no forward of the watched model was seen: call the very object given to sg.watch (model(x), not "
                "model.forward(x)), with gradients on; if a function around it is compiled, compile the model instead; "
                "a class with a __call__ of its own has to go through its forward"
            )
        self._weights = None


def _call(ref: weakref.ref[Steps], method: Callable[..., None], *args: Any) -> None:
    steps = ref()
    if steps is not None:
        method(steps, *args)
