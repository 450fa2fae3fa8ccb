"""Edits the gradients of parameters, by the measured skip gradients, just before the optimizer's step."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import nn

from skipgrad.core.errors import BadInput, RemedyRefused
from skipgrad.core.graph import Skip, SkipGraph
from skipgrad.core.run import SkipRow
from skipgrad.instrument.state import kept
from skipgrad.instrument.wrappers import locate, strip_call
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.plan import Applied, Plan
from skipgrad.remedies.records import Checked, Left, Verification

LOWEST, HIGHEST = 0.1, 10.0  # bounds of a factor
DECAY = 0.9  # of the running mean of ‖S‖, per step


class Rule(Protocol):
    """Turns running means of skip-gradient norms into the factors of branch gradients."""

    def __call__(
        self, norms: Mapping[str, float], grads: Callable[[str], float], weights: Callable[[str], float]
    ) -> dict[str, float]:
        """Factors by skip.

        Args:
            norms: running mean of the figure that is gone by, by skip, positive and finite.
            grads: the norm of the present gradient of a skip's branch parameters.
            weights: the norm of these parameters.
        """
        ...


# What of a row a controller may go by: the gradient through the shortcut; what enters the branch at the merge, which is
# dL/dy of an add; the branch's gradient against the shortcut's.
FIGURES: dict[str, Callable[[SkipRow], float]] = {
    "skip": lambda row: row.skip_norm,
    "entering": lambda row: row.out_norm,
    "ratio": lambda row: row.branch_norm / row.skip_norm if row.skip_norm > 0 else math.nan,
}


def figure_of(remedy: str, by: str, known: Collection[str]) -> Callable[[SkipRow], float]:
    """The figure of a name; ‖S‖ for policies that go by parameters, which still want to know what was measured.

    Raises:
        BadInput: no such policy.
    """
    if by not in known:
        raise BadInput(f"setting up {remedy}", where="by", received=repr(by), todo=f"give one of {', '.join(known)}")
    return FIGURES.get(by, FIGURES["skip"])


def modules_by_skip(graph: SkipGraph) -> tuple[dict[str, tuple[str, ...]], tuple[Left, ...]]:
    """Skip → the modules on its branches, and the skips that have none. Each module belongs to its innermost skip only.

    A module on the branches of two skips, neither of which is inside the other, belongs to no skip: two factors would
    be wanted for it.
    """
    holders: dict[str, list[Skip]] = {}
    for skip in graph.skips:
        for path in dict.fromkeys(strip_call(p) for branch in skip.branches for p in branch):
            holders.setdefault(path, []).append(skip)
    owned: dict[str, list[str]] = {s.name: [] for s in graph.skips}
    shared: dict[str, list[str]] = {}
    for path, skips in holders.items():
        inner = min(skips, key=lambda s: s.end - s.start)
        if all(_inside(inner, s) for s in skips if s is not inner):
            owned[inner.name].append(path)
        else:
            for s in skips:
                shared.setdefault(s.name, []).append(path)
    left = []
    for name, paths in owned.items():
        if not paths:
            several = shared.get(name)
            reason = f"{several[0]!r} is on several branches" if several else "its layers belong to skips inside it"
            left.append(Left(name, reason))
    return {name: tuple(paths) for name, paths in owned.items() if paths}, tuple(left)


def _inside(inner: Skip, outer: Skip) -> bool:
    same = (inner.start, inner.end) == (outer.start, outer.end)
    return not same and outer.start <= inner.start and inner.end <= outer.end


class Steering(Applied):
    """Multiplies the gradients of each branch's parameters by a factor computed from the measured skip gradient.

    Only the `.grad` of branch parameters is changed, and only after the backward, so that the gradient that flows on
    upstream is exact. It is in force from `attach(optimizer)` on.

    Attributes:
        factors: skip → the factor in the last step.
    """

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        graph: SkipGraph,
        modules: Mapping[str, tuple[str, ...]],
        rule: Rule,
        watch: Callable[..., Any],
        figure: Callable[[SkipRow], float] = FIGURES["skip"],
    ) -> None:
        super().__init__(plan, model)
        self._figure = figure
        self._graph, self._rule, self._watch = graph, rule, watch
        self.factors: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._troubles: Counter[str] = Counter()
        self._stack = ExitStack()
        self._ledger: Any = None
        self._own = True
        self._feed: Any = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._handle: Any = None
        self.parameters, shared = self._assign(modules)
        self.skipped = (*plan.skipped, *shared)
        if not self.parameters:
            raise RemedyRefused(
                f"applying {plan.remedy}",
                received="no branch with parameters of its own",
                todo="leave this model as it is",
            )

    def _assign(self, modules: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, list[nn.Parameter]], list[Left]]:
        """Skip → the parameters of its branches, without those that another module holds too (tied weights)."""
        holders: dict[int, list[int]] = {}
        for module in self.model.modules():
            for p in module.parameters(recurse=False):
                holders.setdefault(id(p), []).append(id(module))
        found: dict[str, list[nn.Parameter]] = {}
        left: list[Left] = []
        for name, paths in modules.items():
            for path in paths:
                module = locate(self.model, path, f"applying {self.plan.remedy}")
                # Its output projection is a submodule that is never called, so no path of the graph names it.
                deep = isinstance(module, nn.MultiheadAttention)
                own = [p for p in module.parameters(recurse=deep) if p.requires_grad]
                alone = [p for p in own if len(holders[id(p)]) == 1]
                if len(alone) < len(own):
                    left.append(Left(name, f"{path!r} shares a weight with another module; its gradient is left alone"))
                if alone:
                    found.setdefault(name, []).extend(alone)
        return found, left

    @property
    def notes(self) -> tuple[str, ...]:
        """How many steps left gradients as they were, and why."""
        return tuple(f"{n} × {text}" for text, n in self._troubles.items())

    def _do(self) -> None:
        """Does nothing: the edit begins when there is an optimizer."""

    def attach(self, optimizer: torch.optim.Optimizer, ledger: Any = None) -> Steering:
        """Starts measuring, and steers from the optimizer's next step on.

        Args:
            optimizer: its ``step`` is preceded by the edit.
            ledger: a ledger that is open on the model already, to be used in place of one of its own.

        Raises:
            RemedyRefused: the edit has an optimizer already, or was undone.
        """
        if self._optimizer is not None or self._undone:
            raise RemedyRefused(
                f"attaching {self.plan.remedy}",
                received="an edit that was undone" if self._undone else "a second optimizer",
                todo="undo it and apply a new plan",
            )
        self._open(ledger)
        self._optimizer = optimizer
        self._handle = optimizer.register_step_pre_hook(self._before_step)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What it remembers from step to step: to be saved with the training."""
        return {"running": dict(self._running), "factors": dict(self.factors), "rule": dict(vars(self._rule))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave; skips that are no longer there are left out."""
        self._running = {name: float(v) for name, v in state["running"].items()}
        self.factors = {name: float(v) for name, v in state["factors"].items() if name in self.parameters}
        vars(self._rule).update(state["rule"])

    def _open(self, ledger: Any = None) -> None:
        self._own = ledger is None
        self._ledger = (
            self._stack.enter_context(self._watch(self.given, self._graph, budget=None)) if self._own else ledger
        )
        self._feed = self._ledger.feed()

    def _revert(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._optimizer = self._ledger = self._feed = None
        self._stack.close()

    def _norms(self) -> dict[str, float]:
        """Skip → the figure since the last step; over several micro-batches the root of the mean square."""
        new: list[SkipRow] = self._feed.take().skips
        squares: dict[str, list[float]] = {}
        for row in new:
            squares.setdefault(row.skip, []).append(self._figure(row) ** 2 if row.finite else math.nan)
        norms = {s: math.sqrt(sum(v) / len(v)) for s, v in squares.items()}
        return {s: n for s, n in norms.items() if math.isfinite(n) and n > 0}

    def _before_step(self, _optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        norms = self._norms()
        for name, norm in norms.items():
            old = self._running.get(name, norm)
            self._running[name] = DECAY * old + (1 - DECAY) * norm
        usable = {s: self._running[s] for s in self.parameters if s in norms}
        missing = [s for s in self.parameters if s not in norms]
        if missing:
            many = "no skip had a usable measurement" if not usable else f"{missing[0]} … had no usable measurement"
            self._troubles[f"{many}: gradients left as they were"] += 1
        self.factors = self._rule(usable, self._grad_norm, self._weight_norm) if usable else {}
        for name, factor in self.factors.items():
            for p in self.parameters[name]:
                if p.grad is not None:
                    p.grad.mul_(factor)

    def _grad_norm(self, skip: str) -> float:
        grads = [p.grad for p in self.parameters[skip] if p.grad is not None]
        return math.sqrt(sum(float(g.detach().float().square().sum()) for g in grads))

    def _weight_norm(self, skip: str) -> float:
        return math.sqrt(sum(float(p.detach().float().square().sum()) for p in self.parameters[skip]))

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that only branch parameters' gradients change, and by their factor exactly.

        Runs ``loss`` twice, without and with the edit, from the same random state; the model, its gradients and
        the edit's own state are put back.
        """
        loss = evidence.loss
        outside = "gradients outside the branches are bitwise those without it (upstream is exact)"
        inside = "branch gradients are those without it times their factor"
        if loss is None or self._optimizer is None:
            reason = "no loss given" if loss is None else "no optimizer attached"
            checks = tuple(Checked(what, "not applicable", reason=reason) for what in (outside, inside))
            return Verification(self.plan.remedy, checks)
        state, rule = (dict(self._running), dict(self.factors), Counter(self._troubles)), self._rule
        self._rule = copy.copy(rule)
        try:
            if self._own:  # the run without the edit is without the watch too, so that a change by measuring would show
                self._stack.close()
            plain = self._gradients(loss)
            if self._own:
                self._open()
            self._feed.take()
            steered = self._gradients(loss, steer=True)
            factors = {id(p): f for s, f in self.factors.items() for p in self.parameters[s]}
        finally:
            self._running, self.factors, self._troubles = state
            self._rule = rule
            self._feed.take()
        return Verification(self.plan.remedy, _compare(plain, steered, factors, outside, inside))

    def _gradients(self, loss: Callable[[], torch.Tensor], steer: bool = False) -> dict[int, torch.Tensor | None]:
        with kept(self.model):
            loss().backward()
            if steer:
                assert self._optimizer is not None
                self._before_step(self._optimizer, (), {})
            return {id(p): p.grad for p in self.model.parameters()}


def _compare(
    plain: dict[int, torch.Tensor | None],
    steered: dict[int, torch.Tensor | None],
    factors: dict[int, float],
    outside: str,
    inside: str,
) -> tuple[Checked, ...]:
    worst = {outside: 0.0, inside: 0.0}
    same = True
    for i, old in plain.items():
        new = steered[i]
        if old is None or new is None:
            same = same and old is new
            continue
        expected = old * factors[i] if i in factors else old
        what = inside if i in factors else outside
        worst[what] = max(worst[what], float((new - expected).abs().max()) if new.numel() else 0.0)
    first = Checked(outside, "passed" if same and worst[outside] == 0 else "failed", worst[outside])
    if not factors:
        return first, Checked(inside, "not applicable", reason="no skip had a usable measurement")
    return first, Checked(inside, "passed" if worst[inside] == 0 else "failed", worst[inside])


def clip(value: float) -> float:
    """Between 0.1 and 10."""
    return min(max(value, LOWEST), HIGHEST)
