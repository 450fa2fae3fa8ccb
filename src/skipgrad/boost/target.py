"""The loss that is raced to: what the tuned baseline has at three quarters of its budget, and no plateau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from skipgrad.boost.entry import Entry
from skipgrad.core.errors import BadInput
from skipgrad.core.units import number
from skipgrad.race import best_smoothed, trains
from skipgrad.train import TrialResult

SHARE = 0.75  # of the budget
# A target within this share of the chance level is on the plateau there: whoever learns the mean alone reaches it.
PLATEAU = 0.03
DOING = "choosing the target of a race"


@dataclass(frozen=True)
class Target:
    """What is raced to.

    Attributes:
        loss: the smoothed loss; None when there is none to race to.
        reason: how it was chosen, or why there is none.
        chance: the loss of the best answer that is always the same, where it is known.
        of: which loss is raced, ``"training"`` or ``"validation"``.
    """

    loss: float | None
    reason: str
    chance: float | None = None
    of: str = "training"


def choose(baseline: Sequence[Entry], tuning: Sequence[Entry], typed: float | None, chance: float | None) -> Target:
    """The target of a race.

    Args:
        baseline: the tuned baseline's runs on fresh seeds.
        tuning: its tuning trials.
        typed: what the user typed; None for auto.
        chance: the chance level.

    Raises:
        BadInput: a typed target that lies on a plateau, or that the baseline never reaches.
    """
    of = "training" if all(e.held is None for e in baseline) else "validation"
    best = min((best_smoothed(e.raced)[1] for e in (*tuning, *baseline)), default=float("inf"))
    if typed is not None:
        if _at_chance(typed, chance):
            raise BadInput(DOING, where="target", received=f"{number(typed)}, {_plateau(chance)}", todo=_lower(best))
        if best > typed:
            raise BadInput(
                DOING,
                where="target",
                received=f"{number(typed)}, which the baseline never reaches: {number(best)} is the best of its "
                f"{len(tuning) + len(baseline)} trials",
                todo=f"give one above {number(best)}, or more --steps (a race of its own); with the same --out no "
                "trial is repeated",
            )
        return Target(typed, "as typed", chance, of)
    at = [best_smoothed(cut(e.raced, SHARE))[1] for e in baseline]
    if 2 * sum(trains(e.raced) for e in baseline) < len(baseline) or not at:
        return Target(None, f"the tuned baseline does not train: {number(best)} is its best smoothed loss", chance, of)
    loss = median(at)
    if _at_chance(loss, chance):
        return Target(None, f"the tuned baseline's loss of {number(loss)} is {_plateau(chance)}", chance, of)
    return Target(
        loss,
        f"the tuned baseline's best smoothed {of} loss at 75 % of its budget, median over fresh seeds",
        chance,
        of,
    )


def cut(result: TrialResult, share: float) -> TrialResult:
    """The first ``share`` of a trial, as if it had ended there."""
    return replace(result, losses=result.losses[: max(1, round(share * result.trial.steps))])


def _at_chance(loss: float, chance: float | None) -> bool:
    return chance is not None and loss >= chance - PLATEAU * abs(chance)


def _plateau(chance: float | None) -> str:
    return (
        f"on the plateau at {number(chance)}, which is reached by learning the targets' mean alone (the class-prior or "
        "unigram level)"
    )


def _lower(best: float) -> str:
    return f"give a lower one; the baseline's best is {number(best)}"
