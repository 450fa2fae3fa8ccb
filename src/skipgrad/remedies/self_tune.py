"""self-tune: the rate steered so that a step changes the branches by a set amount."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.branches import branch_ends, stops_zero
from skipgrad.core.errors import BadInput, RemedyRefused
from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.change import Change, on_branches
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.looks import Looks, measurable
from skipgrad.remedies.plan import Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Checked, Edit, Verification
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit.places import Spot
from skipgrad.remedies.zero_init import Zeroed, ZeroInit

START = 1e-3  # of the typed rate, at the first step
HIGHEST = 1e4  # times the typed rate
RISE, LEAST_RISE = 2.0, 1.05  # a step, while it rises
NEAR = 0.8  # of tau: from there on D rises slowly where it saturates (batch norm), and is looked at ...
PATIENT = 5  # ... every so many steps
FARTHEST = 8  # steps from look to look while it rises
UP, DOWN = 1.5, 0.5  # a look, later
AFTER = 4.0  # times the rate at the end of the rise: where D saturates a higher rate does not raise it

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("self-tune", tau={tau}).plan(graph).apply(model, optimizer)
# ... train as before, without a warm-up; applied.multiplier is what the typed rate is multiplied with
"""


class SelfTune(Remedy):
    """Zero-init, and the rate × a factor that holds D = Σᵢ ‖ΔFᵢ‖ / ‖xᵢ‖ at ``tau``.

    ΔFᵢ is what one step changes of branch i at the input xᵢ it had; D costs two forwards a look. The factor begins at
    a thousandth and rises at every step until D ≥ tau (in place of a warm-up); later it is corrected by
    √(tau·c / D), between ½ and 1½, every ``every`` steps, where c is what a schedule makes of the typed rate. It never
    exceeds four times what it was at the end of the rise. While it rises, steps are left unlooked at as long as D could
    not have reached tau if it had quadrupled in each, and four of five are near tau.

    It makes the typed rate matter less. It is no faster than a tuned rate.

    Papers: the neighbours are trust ratios (You et al. 2017, arXiv:1708.03888) and Prodigy (Mishchenko & Defazio
    2023, arXiv:2306.06101); holding the measured change of the branches is ours.

    Args:
        tau: the change a step.
        every: steps between looks once it has risen.
    """

    name: ClassVar[str] = "self-tune"
    title: ClassVar[str] = "A rate steered by the measured change of the branches"
    kind: ClassVar[RemedyKind] = "model"
    knobs: ClassVar[Mapping[str, Knob]] = {"tau": Span(0.1, 0.4, log=True)}

    def __init__(self, tau: float = 0.25, every: int = 20) -> None:
        if not (isinstance(tau, int | float) and math.isfinite(tau) and tau > 0):
            raise BadInput("setting up self-tune", where="tau", received=repr(tau), todo="give a number such as 0.25")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise BadInput("setting up self-tune", where="every", received=repr(every), todo="give a number of steps")
        self.tau, self.every = float(tau), every

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not branch_ends(graph, stops_zero).skips:
            raise refusal(self.name, f"no branch that could start at zero among {len(graph)} skips")
        zero = ZeroInit().plan(graph)
        branches, shortcuts, left = measurable(self.name, graph)
        if not branches:
            raise refusal(self.name, "no branch whose change could be measured", left)
        what = f"the rate × a factor that holds Σ ‖ΔF‖/‖x‖ over {len(branches)} branches at {self.tau:g}"
        steer = Edit("optimizer", what)
        ends = dict(branch_ends(graph, stops_zero).skips)
        spotted = branches, shortcuts, on_branches(graph, branches)
        bind = partial(_bound, ends=ends, spotted=spotted, tau=self.tau, every=self.every)
        lines = _LINES.format(tau=self.tau)
        return Plan(self.name, (*zero.edits, steer), zero.skipped, lines, bind)


def _bound(plan: Plan, model: nn.Module, **given: Any) -> SelfTuned:
    return SelfTuned(plan, model, **given)


class SelfTuned(Zeroed):
    """`SelfTune` in force: the zeros at once, the rate from `attach(optimizer)` on.

    Attributes:
        multiplier: what the rate is multiplied with in the next step.
        change: D of the last look; None before the first.
        looks: how often D was measured.
    """

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        *,
        ends: dict[str, tuple[str, ...]],
        spotted: tuple[list[Spot], list[Spot], tuple[str, ...]],
        tau: float,
        every: int,
    ) -> None:
        super().__init__(plan, model, ends)
        self._measure = Change(self.model, *spotted, f"applying {plan.remedy}")
        self._tau, self._every = tau, every
        self.multiplier, self.change, self.looks = START, None, 0
        self._rising, self._cap, self._step = True, HIGHEST, 0
        self._next, self._near, self._looked_at = 0, False, -1
        self._optimizer: torch.optim.Optimizer | None = None
        self._typed: list[float] = []
        self._held: list[float] = []
        self._looks: Looks | None = None
        self._handles: list[Any] = []

    @property
    def lines(self) -> str:
        return self.plan.lines

    @property
    def notes(self) -> tuple[str, ...]:
        """What the rate was multiplied with, and after how many looks."""
        if not self.looks:
            return ()
        how = "still rising" if self._rising else "held"
        return (f"rate × {self.multiplier:.3g} ({how}) after {self.looks} looks, the last at D = {self.change:.3g}",)

    def attach(self, optimizer: torch.optim.Optimizer) -> SelfTuned:
        """Steers the optimizer's rate from its next step on; its rates now are the typed ones.

        Raises:
            RemedyRefused: it has an optimizer already, or was undone.
        """
        if self._optimizer is not None or self._undone:
            raise RemedyRefused(
                f"attaching {self.plan.remedy}",
                received="an edit that was undone" if self._undone else "a second optimizer",
                todo="undo it and apply a new plan",
            )
        self._optimizer = optimizer
        self._typed = [float(g["lr"]) for g in optimizer.param_groups]
        self._looks = Looks(self._measure, self.given, optimizer, self._due, self._looked)
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        return self

    def state_dict(self) -> dict[str, Any]:
        """What to keep with a checkpoint."""
        told = {"multiplier": self.multiplier, "rising": self._rising, "cap": self._cap, "step": self._step}
        return {**told, "next": self._next, "near": self._near}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.multiplier, self._rising = float(state["multiplier"]), bool(state["rising"])
        self._cap, self._step = float(state["cap"]), int(state["step"])
        self._next, self._near = int(state.get("next", self._step)), bool(state.get("near"))

    def _revert(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._looks is not None:
            self._looks.end()
        self._optimizer = self._looks = None
        super()._revert()

    def _due(self) -> bool:
        return self._step >= self._next if self._rising else self._step % self._every == 0

    def _looked(self, found: dict[str, float], _rate: float) -> None:
        self._steer(everywhere(sum(found.values())))

    def _before(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self._held = [float(g["lr"]) for g in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, self._held, strict=True):
            group["lr"] = rate * self.multiplier

    def _after(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._held, strict=True):
            group["lr"] = rate  # a schedule of the user's sees its own rate
        if self._rising and self._looked_at < self._step < self._next and not self._near:
            self.multiplier = min(HIGHEST, self.multiplier * RISE)
        self._step += 1

    def _steer(self, change: float) -> None:
        self.change, self.looks, self._looked_at = change, self.looks + 1, self._step
        typed, now = self._typed[0], self._held[0]
        wanted = self._tau * (now / typed if typed > 0 else 1.0)
        if not math.isfinite(change):
            self.multiplier *= 0.1
            self._rising = False
            self._cap = min(self._cap, self.multiplier)
            return
        ratio = math.sqrt(wanted / change) if change > 0 else math.inf
        if self._rising:
            if change >= wanted or self.multiplier >= HIGHEST:
                self._rising = False
                self.multiplier *= min(1.0, ratio)
                self._cap = min(HIGHEST, AFTER * self.multiplier)
                return
            self._near = change >= NEAR * wanted
            far = min(FARTHEST, 1 + max(0, int(math.log2(wanted / change) / 2))) if change > 0 else 2
            wait = PATIENT if self._near else far
            self._next = self._step + wait
            least = LEAST_RISE**PATIENT if self._near else LEAST_RISE
            self.multiplier = min(HIGHEST, self.multiplier * min(RISE, max(least, ratio)))
        else:
            self.multiplier = min(self._cap, self.multiplier * min(UP, max(DOWN, ratio)))

    def _verify(self, evidence: Evidence) -> Verification:
        """The checks of zero-init, and that the optimizer holds its own rates outside a step."""
        what = "outside a step the optimizer holds the typed rates"
        own = self._optimizer
        if own is None:
            last = Checked(what, "not applicable", reason="no optimizer attached")
        elif self._step:
            last = Checked(what, "not applicable", reason="a schedule may have moved them since")
        else:
            off = max(abs(g["lr"] - r) for g, r in zip(own.param_groups, self._typed, strict=True))
            last = Checked(what, "passed" if off == 0 else "failed", off)
        return Verification(self.plan.remedy, (*super()._verify(evidence).checks, last))


def everywhere(change: float) -> float:
    """The mean over the processes of a job, so that all steer alike."""
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return change
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    held = torch.tensor(change, dtype=torch.float32, device=device)
    dist.all_reduce(held)
    return float(held) / dist.get_world_size()


REMEDIES.register("self-tune", SelfTune(), rank=6)
