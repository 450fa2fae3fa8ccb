"""The records of the lab: a claim, what one seed showed, the verdict. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median, stdev
from typing import Any, Literal

from skipgrad.lab.picture import Picture

VerdictState = Literal["reproduced", "not reproduced", "not resolvable at this scale", "measured"]
Scale = Literal["two-cores", "gpu"]
SCALES: tuple[Scale, ...] = ("two-cores", "gpu")
Topic = Literal["gradient", "training", "structure", "memory", "regularization", "application"]

Values = dict[str, float]

# Student's t for a two-sided interval of 95 % with 1, 2 … degrees of freedom; 1.96 beyond.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


def quiet(_doing: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Setting:
    """How one seed of an experiment is to be run.

    Attributes:
        seed: the seed.
        quick: the shorter version.
        scale: ``"two-cores"``, or ``"gpu"`` for the papers' sizes where a claim has them.
        threads: chooses torch's threads for claims that train; None leaves them alone.
        say: called with what is being done now.
    """

    seed: int
    quick: bool = False
    scale: Scale = "two-cores"
    threads: Any = None
    say: Callable[[str], Any] = quiet


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
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Effect:
    """The size of an effect over the seeds.

    Attributes:
        name: of the figure.
        mean: over the seeds.
        low: lower end of the 95 % interval of the mean (Student's t; the seeds are few); equal to mean for one seed.
        high: upper end.
    """

    name: str
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, figures: Sequence[Figure]) -> Effect:
        """The effect that a figure shows; infinite ends where a seed's figure is not finite."""
        values = [f.values[name] for f in figures if name in f.values]
        if not values or not all(map(math.isfinite, values)):
            middle = median(values) if values else math.nan
            return cls(name, middle, -math.inf, math.inf)
        if len(values) == 1:
            return cls(name, values[0], values[0], values[0])
        half = (_T[len(values) - 2] if len(values) - 2 < len(_T) else 1.96) * stdev(values) / len(values) ** 0.5
        return cls(name, mean(values), mean(values) - half, mean(values) + half)


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: its id.
        state: ``"reproduced"`` when it holds on every seed; ``"not resolvable at this scale"`` when some seed cannot
            tell and none speaks against it; else ``"not reproduced"``. ``"measured"`` on a user's own model, which is
            not judged.
        reason: one sentence with figures.
        criterion: what was asked of every seed.
        setting: how it was measured, in one line.
        figures: one a seed.
        quick: whether this was the short version of the experiment.
        seconds: wall time of all seeds together.
        effect: the size of the effect with its interval; None where a claim names none.
        scale: at which scale.
        model: the user's own model it was run on; empty for the claim's own nets.
    """

    claim: str
    state: VerdictState
    reason: str
    criterion: str
    setting: str
    figures: tuple[Figure, ...]
    quick: bool = False
    seconds: float = 0.0
    effect: Effect | None = None
    scale: Scale = "two-cores"
    model: str = ""


@dataclass(frozen=True)
class Progress:
    """How far an experiment has come: ``done`` of ``total`` seeds, and what is being done now."""

    claim: str
    done: int
    total: int
    doing: str


Tell = Callable[[Progress], Any]


@dataclass(frozen=True)
class Claim:
    """A claim about skip connections, and the experiment that tests it.

    Attributes:
        id: as in the table of claims, e.g. ``"D1"``.
        title: a few words.
        statement: the claim in one sentence.
        anchor: the figures of the literature, with the source.
        criterion: what the experiment asks of every seed.
        refutes: what would have spoken against it.
        setting: how it is measured, in one line.
        one_seed: runs the experiment on one seed and returns its figures.
        judge: whether figures of one seed meet the criterion; None when they cannot tell. Pure.
        sentence: what the figures of all seeds say. Pure.
        picture: what the figures of all seeds look like. Pure.
        effect: the figure whose size is told with an interval; empty for none.
        caution: what is wrong or contested in the popular statement.
        topic: what it is about.
        seeds: those it takes unless told otherwise.
        duration: about how long one seed takes on one CPU core, as text.
        trains: whether it trains nets, and so chooses its threads.
        on_model: the experiment on a user's own model and data: called with the workload and the setting. None where
            it does not apply; `not_on_model` then says why.
        not_on_model: why the claim is not asked of a model of the user's own.
        protocol: raised when the experiment changes, so that older results are not mixed with new ones.
    """

    id: str
    title: str
    statement: str
    anchor: str
    criterion: str
    refutes: str
    setting: str
    one_seed: Callable[[Setting], Values]
    judge: Callable[[Values], bool | None]
    sentence: Callable[[Sequence[Figure]], str]
    picture: Callable[[Sequence[Figure]], Picture]
    effect: str = ""
    caution: str = ""
    topic: Topic = "training"
    seeds: tuple[int, ...] = (0, 1, 2)
    duration: str = "seconds"
    trains: bool = False
    on_model: Callable[[Any, Setting], Values] | None = None
    on_model_sentence: Callable[[Sequence[Figure]], str] | None = None
    not_on_model: str = ""
    protocol: int = 1

    def judged(self, seed: int, values: Mapping[str, float]) -> Figure:
        """What one seed showed, by its figures alone."""
        return Figure(seed, self.judge(dict(values)), dict(values))

    def verdict(
        self, by_seed: Mapping[int, Values], *, quick: bool = False, scale: Scale = "two-cores", seconds: float = 0.0
    ) -> Verdict:
        """The verdict from stored figures: nothing is run."""
        figures = tuple(self.judged(seed, values) for seed, values in sorted(by_seed.items()))
        return Verdict(
            self.id,
            state_of(figures),
            self.sentence(figures),
            self.criterion,
            self.setting,
            figures,
            quick,
            seconds,
            Effect.of(self.effect, figures) if self.effect else None,
            scale,
        )

    def measured(
        self, by_seed: Mapping[int, Values], model: str, *, quick: bool = False, seconds: float = 0.0
    ) -> Verdict:
        """What the experiment showed on a user's model. It is not judged: the criterion compares the claim's nets."""
        figures = tuple(Figure(seed, None, dict(values)) for seed, values in sorted(by_seed.items()))
        assert self.on_model_sentence is not None
        return Verdict(
            self.id,
            "measured",
            self.on_model_sentence(figures),
            "none: figures of one net",
            f"{model}, its weights drawn anew and trained a little",
            figures,
            quick,
            seconds,
            model=model,
        )


def state_of(figures: Sequence[Figure]) -> VerdictState:
    """The verdict, seed by seed: see `Verdict.state`."""
    answers = [f.holds for f in figures]
    if answers and all(answers):
        return "reproduced"
    if False not in answers:
        return "not resolvable at this scale"
    return "not reproduced"


def over(figures: Sequence[Figure], name: str) -> list[float]:
    """One figure's values over the seeds."""
    return [f.values[name] for f in figures if name in f.values]


def middle(figures: Sequence[Figure], name: str) -> float:
    """The median of a figure over the seeds."""
    return median(over(figures, name))
