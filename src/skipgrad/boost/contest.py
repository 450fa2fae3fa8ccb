"""The trials of an honest race: everybody tunes alike, then fresh seeds judge, contestants in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from torch import nn

from skipgrad.boost.entry import BASELINE, UNTUNED, WORST, Entry, Plan, remedy_of
from skipgrad.boost.kept import Kept
from skipgrad.boost.options import TYPED, BoostOptions
from skipgrad.boost.space import LARGEST, SMALLEST, as_typed, distributions, knobs_of, options_of, recipe_of
from skipgrad.core.errors import SkipgradError
from skipgrad.core.graph import SkipGraph
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import LossPoint
from skipgrad.instrument.threads import Threads
from skipgrad.models import Workload
from skipgrad.race import Dropped, Finished, Noted, Started, Stepped, prepare_with
from skipgrad.race.race import OnEvent
from skipgrad.train import Treatment, TrialResult, train_trial


@dataclass(frozen=True)
class Ground:
    """What a contestant trains on.

    Attributes:
        workload: model, data and loss.
        graph: the model's skips.
        options: the remedy's own settings, set by us.
        seeds: that a setting is tried on when it is tuned, in place of the recipe's one.
        rates: the lowest and highest rate of the search.
    """

    workload: Workload
    graph: SkipGraph
    options: dict[str, Any] | None = None
    seeds: tuple[int, ...] = ()
    rates: tuple[float, float] | None = None


class Contest:
    """Runs what is not finished yet.

    Args:
        options: what is raced.
        recipe: as typed, its rate settled.
        names: of the remedies.
        ground: of everybody; see ``elsewhere``.
        kept: finished trials.
        tell: called with the events of a race.
        threads: as in `train_trial`.
        elsewhere: contestants that tune on another model.
    """

    def __init__(
        self,
        options: BoostOptions,
        recipe: Recipe,
        names: Sequence[str],
        ground: Ground,
        kept: Kept,
        tell: OnEvent,
        threads: Threads | None = None,
        elsewhere: dict[str, Ground] | None = None,
    ) -> None:
        self.options, self.recipe, self.ground, self.kept = options, recipe, ground, kept
        self.dropped: dict[str, str] = {}
        self.notes: list[str] = []
        self._tell, self._threads, self._elsewhere = tell, threads, elsewhere or {}
        tunes = options.ruleset == "tuned"
        self.tuners = [BASELINE, *(names if tunes else ())]
        self.contestants = [BASELINE, *(() if tunes else (UNTUNED,)), *names]
        self._next = len(kept)

    def run(self, after_tuning: Callable[[Contest], None] | None = None) -> None:
        """Tunes, then judges.

        Raises:
            SkipgradError: what the baseline raises.
            KeyboardInterrupt: passed through; finished trials are kept.
        """
        for number in range(self.options.trials):
            for who in self._still(self.tuners):
                self._tune(who, number)
        for who in self._still(self.tuners):
            self._look_at_edges(who)
        if after_tuning is not None:
            after_tuning(self)
        for turn, seed in enumerate(self.options.judging_seeds):
            still = self._still(self.contestants)
            for who in still[turn % len(still) :] + still[: turn % len(still)]:
                for plan in self.judging(who, seed):
                    self._do(plan, self.ground)

    def note(self, text: str) -> None:
        """Adds something to mind when reading the result."""
        self.notes.append(text)
        self._tell(Noted(text))

    def drop(self, who: str, reason: str) -> None:
        """Takes a contestant out of the race."""
        self.dropped[who] = reason
        self._tell(Dropped(who, reason))

    def _still(self, names: Sequence[str]) -> list[str]:
        return [n for n in names if n not in self.dropped]

    def _ground(self, who: str) -> Ground:
        return self._elsewhere.get(who, self.ground)

    def _tune(self, who: str, number: int) -> None:
        ground = self._ground(who)
        if number == 0:
            params = as_typed(self.recipe)
        else:
            before = [(p, s) for n in range(number) for p, s in self.setting(who, n)]
            params = self.kept.suggest(number, before, self.recipe, knobs_of(remedy_of(who)), ground.rates)
        for plan in self._tuning(who, number, params):
            self._do(plan, ground, first=number == 0)
            if who in self.dropped:
                return

    def _tuning(self, who: str, number: int, params: dict[str, Any]) -> Iterator[Plan]:
        seeds = self._ground(who).seeds or (self.recipe.seed,)
        for seed in seeds:
            yield Plan(who, "tune", str(number) if len(seeds) == 1 else f"{number}, seed {seed}", seed, params)

    def setting(self, who: str, number: int) -> list[tuple[dict[str, Any], float]]:
        """Parameters and score of one setting that was tuned: the median over its seeds; empty when not finished."""
        found = [self.kept.get(p) for p in self._tuning(who, number, {})]
        done = [e for e in found if e is not None]
        if not done or len(done) < len(found):
            return []
        return [(done[0].plan.params, median(e.score for e in done))]

    def tuned(self, who: str) -> list[Entry]:
        """The finished tuning trials of a contestant."""
        return [e for e in self.kept.entries() if (e.plan.who, e.plan.phase) == (who, "tune")]

    def best(self, who: str) -> dict[str, Any]:
        """The parameters with the best score; of several alike those with the lowest rate."""
        settings = [s for n in range(self.options.trials) for s in self.setting(who, n)]
        return min(settings, key=lambda s: (s[1], s[0]["lr"]))[0]

    def has_setting(self, who: str) -> bool:
        """Whether a setting of it was tuned to the end."""
        return any(self.setting(who, n) for n in range(self.options.trials))

    def judging(self, who: str, seed: int) -> list[Plan]:
        """The runs by which a contestant is judged on a seed."""
        if who in self.tuners:
            # The settings are part of the key: more trials later may choose others.
            params = self.best(who)
            told = ", ".join(f"{k} {v}" for k, v in sorted(params.items()))
            return [Plan(who, "judge", f"seed {seed}: {told}", seed, params)]
        typed = as_typed(self.recipe)
        return [
            Plan(who, "judge", f"seed {seed}: typed rate × {f:g}", seed, typed | {"lr": f * typed["lr"]}) for f in TYPED
        ]

    def judged(self, who: str) -> list[Entry]:
        """The finished runs by which a contestant is judged, in the order of the seeds."""
        found = [self.kept.get(p) for seed in self.options.judging_seeds for p in self.judging(who, seed)]
        return [e for e in found if e is not None]

    def _do(self, plan: Plan, ground: Ground, *, first: bool = False) -> None:
        entry = self.kept.get(plan)
        if entry is None:
            entry = self._trial(plan, ground)
            space = distributions(self.recipe, knobs_of(remedy_of(plan.who)), ground.rates)
            self.kept.add(entry, space)
        if entry.refused and first:
            self.drop(plan.who, entry.refused)

    def _trial(self, plan: Plan, ground: Ground) -> Entry:
        recipe = recipe_of(plan.params, self.recipe, plan.seed)
        name = remedy_of(plan.who)
        trial = recipe.trial(self._next, name)
        self._next += 1
        points: list[LossPoint] = []
        started = False

        def prepare(model: nn.Module) -> Treatment | None:
            nonlocal started
            treatment = None
            if name is not None:
                # Where we tune on a shallow net and judge on the deep one, the remedy knows what it was tuned at.
                own = (self._elsewhere[plan.who].options if plan.who in self._elsewhere else None) or {}
                settings = {**own, **options_of(plan.params)}
                device = recipe.device
                applies = prepare_with(name, ground.workload, device=device, graph=ground.graph, options=settings)
                treatment = applies(model)
            started = True
            self._tell(Started(trial))
            return treatment

        def on_step(point: LossPoint) -> None:
            points.append(point)
            self._tell(Stepped(point))

        try:
            result = train_trial(
                ground.workload, recipe, trial=trial, prepare=prepare, on_step=on_step, threads=self._threads
            )
        except SkipgradError as error:
            if name is None:
                raise  # without the baseline there is nothing to compare with
            why = "; ".join(part for part in (error.doing, error.received, error.todo) if part)
            result = TrialResult(replace(trial, state="interrupted"), tuple(points))
            if started:
                self._tell(Finished(result))
            return Entry(plan, result, why)
        except KeyboardInterrupt:
            if started:
                self._tell(Finished(TrialResult(replace(trial, state="interrupted"), tuple(points))))
            raise
        self._tell(Finished(result))
        return Entry(plan, result)

    def _look_at_edges(self, who: str) -> None:
        side = self.edge(who)
        if side and self.options.trials > 1:
            text = f"The best rate of {who}, {self.best(who)['lr']:.3g}, is at the {side} end of the search: "
            self.note(text + "one further out may do better.")

    def edge(self, who: str) -> str:
        """Which end of the search the best rate lies at, within a sixth of a decade; empty when at none."""
        low, high = self._ground(who).rates or (SMALLEST * self.recipe.rate, LARGEST * self.recipe.rate)
        best = self.best(who)["lr"]
        near = 10 ** (1 / 6)
        return "lowest" if best < low * near else "highest" if best > high / near else ""

    def trains(self, who: str) -> bool:
        """Whether any setting that was tuned has a finite score."""
        return any(s < WORST for n in range(self.options.trials) for _, s in self.setting(who, n))
