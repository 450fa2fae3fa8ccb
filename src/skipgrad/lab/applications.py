"""What the applications have in common: nets with skips and without, trained alike, at their best rates, and scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from skipgrad.core import Recipe, SkipRow
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import Picture, dots
from skipgrad.ledger import Ledger, watch
from skipgrad.models import Workload
from skipgrad.race import final_loss
from skipgrad.train import settle, train_trial
from skipgrad.train.protocols import WorkloadLike

WITH, WITHOUT = "with skips", "without"
SHARE = "share through skips"


@dataclass(frozen=True)
class Measure:
    """What a net is scored by.

    Attributes:
        name: with its unit.
        higher: whether more is better.
        learned: the score from which a net with skips counts as trained.
        gap: by how much the net with skips must be better.
    """

    name: str
    higher: bool
    learned: float
    gap: float

    @property
    def worst(self) -> float:
        """The score of a net that diverged."""
        return 0.0 if self.higher else math.inf

    @property
    def gained(self) -> str:
        """Name of the gap, positive where skips help."""
        return f"{self.name}, gained by skips"

    def of(self, arm: str) -> str:
        """Name of the score of one net."""
        return f"{self.name}, {arm}"

    def gap_of(self, values: Mapping[str, float], better: str = WITH, worse: str = WITHOUT) -> float:
        """By how much one net is better than another."""
        gap = values[self.of(better)] - values[self.of(worse)]
        return gap if self.higher else -gap

    def judge(self, values: Values) -> bool | None:
        """Whether the gap is wide enough; it cannot tell where the net with skips has not learned."""
        score = values[self.of(WITH)]
        if not (score >= self.learned if self.higher else score <= self.learned):
            return None
        return values[self.gained] >= self.gap

    @property
    def criterion(self) -> str:
        """What is asked, in words."""
        sides = f"{WITH} − {WITHOUT}" if self.higher else f"{WITHOUT} − {WITH}"
        bound = "≥" if self.higher else "≤"
        return (
            f"{self.name}, {sides} ≥ {self.gap:g}; a seed whose net with skips does not get {bound} {self.learned:g} "
            "cannot tell"
        )


Score = Callable[[nn.Module], float]


def contest(
    arms: Mapping[str, WorkloadLike],
    recipe: Recipe,
    rates: Sequence[float],
    measure: Measure,
    score: Score,
    setting: Setting,
    *,
    long: bool = False,
) -> Values:
    """Trains every net at every rate, keeps the rate with the lowest training loss at the end, and scores it.

    The short version takes the first rate only. The ledger measures the first and the last step; the share told is that
    of the last.

    Args:
        arms: the nets by name, `WITH` and `WITHOUT` among them.
        recipe: how they are trained; its rate and seed are filled in.
        rates: learning rates, the same for all nets.
        measure: what they are scored by.
        score: the net, in evaluation mode → its score on samples it has not seen.
        setting: of the seed.
        long: whether the share is that of long skips alone.
    """
    values: Values = {}
    for name, workload in arms.items():
        best = math.inf
        for k, rate in enumerate(rates[:1] if setting.quick else rates):
            setting.say(f"training {name}, rate {rate:g}")
            model, loss, shared = _trained(workload, replace(recipe, lr=rate, seed=setting.seed), setting, long)
            if k and not loss < best:
                continue
            best = loss
            got = measure.worst if math.isinf(loss) else scored(model, score)
            values[measure.of(name)] = got if math.isfinite(got) else measure.worst
            values[f"rate, {name}"] = rate
            values[f"weights, {name}"] = float(weights(model))
            if shared is not None:
                values[f"{SHARE}, {name}"] = shared
    values[measure.gained] = measure.gap_of(values)
    return values


def scored(model: nn.Module, score: Score) -> float:
    """The score, in evaluation mode and without gradients."""
    was = model.training
    model.eval()
    with torch.no_grad():
        got = score(model)
    model.train(was)
    return got


def weights(model: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def share_of(ledger: Ledger, *, long: bool = False) -> float | None:
    """The mean over skips of ‖S‖² / (‖S‖² + ‖B‖²) at the last step measured; None without skips."""
    graph = ledger.graph
    if graph is None:
        return None
    wanted = {s.name for s in graph.skips if s.long or not long}
    rows = [r for r in ledger.rows() if r.skip in wanted and r.finite]
    if not rows:
        return None
    last = max(r.step for r in rows)
    shares = [share(r) for r in rows if r.step == last and r.skip_norm + r.branch_norm > 0]
    return math.fsum(shares) / len(shares) if shares else None


def share(row: SkipRow) -> float:
    """‖S‖² / (‖S‖² + ‖B‖²)."""
    return row.skip_norm**2 / (row.skip_norm**2 + row.branch_norm**2)


def found_and_measured(name: str, make: Callable[[], nn.Module], batch: Any, loss: Callable[..., Any]) -> Values:
    """What `find` sees in a net of others and `watch` measures in one forward and backward of it.

    Args:
        name: begins the figures' names.
        make: draws the net, in training mode.
        batch: positional inputs.
        loss: of the output.
    """
    with kept_random(torch.device("cpu")):
        seed_all(0)
        model = make()
        graph = find(model, *batch)
        with watch(model, graph, budget=None, layers=False) as ledger:
            loss(model(*batch)).backward()
    rows = ledger.rows()
    return {
        f"{name}: skips found": float(len(graph.skips)),
        f"{name}: skips measured": float(len({r.skip for r in rows})),
        f"{name}: {SHARE}": share_of(ledger) or 0.0,
        f"{name}: largest residual": max((r.residual for r in rows), default=math.inf),
    }


def _trained(
    workload: WorkloadLike, recipe: Recipe, setting: Setting, long: bool
) -> tuple[nn.Module, float, float | None]:
    """The net, its loss at the end and the share of gradient through its skips at the last step."""
    kept: list[nn.Module] = []
    ledgers: list[Ledger] = []

    def observe(model: nn.Module, optimizer: torch.optim.Optimizer) -> Ledger:
        ledgers.append(watch(model, None, optimizer, max(1, recipe.steps - 1), layers=False))
        return ledgers[0]

    settle(workload, recipe, setting.threads)
    result = train_trial(workload, recipe, prepare=kept.append, observe=observe, threads=setting.threads)
    return kept[0], final_loss(result), share_of(ledgers[0], long=long)


def parts(workload: Workload, share: float = 0.2) -> tuple[Workload, Workload]:
    """What is trained on, and what is held out."""
    train, held = workload.held_out(share)
    assert held is not None
    return train, held


def over_all(held: Workload, each: Callable[[Any, Any], Any], limit: int = 100) -> Score:
    """The mean over samples of what is made of an output and a target, over the first batches held out."""

    def score(model: nn.Module) -> float:
        total = count = 0.0
        for batch in islice(held.in_order(), limit):
            values = each(model(*batch.args, **batch.kwargs), batch.target)
            total, count = total + float(values.sum()), count + values.numel()
        return total / count

    return score


@dataclass(frozen=True)
class Told:
    """How an application says and shows what it found: its nets, in order, and its measure."""

    measure: Measure
    arms: tuple[str, ...] = (WITH, WITHOUT)

    def sentence(self, figures: Sequence[Figure]) -> str:
        """Score, weights, rate and share, as medians over the seeds."""
        scores = ", ".join(f"{number(middle(figures, self.measure.of(a)))} {a}" for a in self.arms)
        sizes = ", ".join(number(middle(figures, f"weights, {a}")) for a in self.arms)
        text = f"{self.measure.name} {scores}, at {sizes} weights"
        if any(f"{SHARE}, {WITH}" in f.values for f in figures):
            text += f"; skips carry {number(middle(figures, f'{SHARE}, {WITH}'))} of the gradient at the last step"
        return f"{text} (medians over {len(figures)} seed{'s' if len(figures) > 1 else ''})."

    def picture(self, figures: Sequence[Figure]) -> Picture:
        """The score of each net and seed."""
        return dots(figures, [self.measure.of(a) for a in self.arms], self.measure.name)


def application(measure: Measure, *, arms: tuple[str, ...] = (WITH, WITHOUT), **fields: Any) -> Claim:
    """A claim of the topic "application": nets named ``arms``, one measure, a gap."""
    told = Told(measure, arms)
    given: dict[str, Any] = {
        "criterion": measure.criterion,
        "refutes": "a net without skips that does as well at its own best rate",
        "judge": measure.judge,
        "sentence": told.sentence,
        "picture": told.picture,
        "effect": measure.gained,
        "topic": "application",
        "trains": True,
        "not_on_model": "it compares two nets of its own: `skipgrad check MODEL --data DATA` asks yours",
    }
    return Claim(**(given | fields))
