"""The records of the lab: a claim, what one seed showed, the verdict. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

VerdictState = Literal["reproduced", "not reproduced", "not resolvable at this scale"]


@dataclass(frozen=True)
class Figure:
    """What one seed showed.

    Attributes:
        seed: the seed.
        holds: whether the criterion is met on it; None when this seed cannot tell (a control did not train).
        values: the figures, by name (with the unit in the name where there is one).
    """

    seed: int
    holds: bool | None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: its id.
        state: ``"reproduced"`` when it holds on every seed; ``"not resolvable at this scale"`` when some seed cannot
            tell and none speaks against it; else ``"not reproduced"``.
        reason: one sentence with figures.
        criterion: what was asked of every seed.
        setting: how it was measured, in one line.
        figures: one a seed.
        quick: whether this was the short version of the experiment.
        seconds: wall time of the whole experiment.
    """

    claim: str
    state: VerdictState
    reason: str
    criterion: str
    setting: str
    figures: tuple[Figure, ...]
    quick: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How far an experiment has come: ``done`` of ``total`` parts, and what is being done now."""

    claim: str
    done: int
    total: int
    doing: str


Tell = Callable[[Progress], Any]


@dataclass(frozen=True)
class Outcome:
    """What an experiment hands back: its figures, one sentence about them and how they were got."""

    figures: tuple[Figure, ...]
    reason: str
    setting: str


@dataclass(frozen=True)
class Claim:
    """A claim about skip connections, and the experiment that tests it.

    Attributes:
        id: as in the table of claims, e.g. ``"D1"``.
        title: a few words.
        statement: the claim in one sentence.
        anchor: the figures of the literature.
        criterion: what the experiment asks of every seed.
        experiment: called with ``quick``, the seeds and a progress callback; with ``threads`` too when it trains.
        seeds: those it takes unless told otherwise.
        duration: about how long the full one takes on one CPU core, as text.
        trains: whether it trains nets, and so chooses its threads.
    """

    id: str
    title: str
    statement: str
    anchor: str
    criterion: str
    experiment: Callable[..., Outcome]
    seeds: tuple[int, ...] = (0, 1, 2)
    duration: str = "seconds"
    trains: bool = False


def state_of(figures: Sequence[Figure]) -> VerdictState:
    """The verdict, seed by seed: see `Verdict.state`."""
    answers = [f.holds for f in figures]
    if answers and all(answers):
        return "reproduced"
    if False not in answers:
        return "not resolvable at this scale"
    return "not reproduced"
