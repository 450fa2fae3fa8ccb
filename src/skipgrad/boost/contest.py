"""The trials of an honest race: everybody tunes alike, then fresh seeds judge, contestants in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from skipgrad.boost.entry import BASELINE, TYPED_KEY, UNTUNED, WORST, Entry, Plan, remedy_of
from skipgrad.boost.kept import Kept
from skipgrad.boost.options import TYPED, BoostOptions
from skipgrad.boost.space import LARGEST, SMALLEST, as_typed, distributions, knobs_of
from skipgrad.boost.trial import Ground, Job, run_trial, tell_of
from skipgrad.core.recipe import Recipe
from skipgrad.instrument.hardware import hardware
from skipgrad.instrument.threads import Threads
from skipgrad.race import Dropped, Noted
from skipgrad.race.race import OnEvent

# Runs trials somewhere, several at once; the entries come in the order in which they finish.
Apart = Callable[[Sequence[Job]], Iterable[Entry]]


class Contest:
    """Runs what is not finished yet.

    Attributes:
        dropped: who refused, and why.
        notes: what to mind.
        q: D_deep / D_shallow where a rate is carried from a shallow net, once it is measured.

    Args:
        options: what is raced.
        recipe: as typed, its rate settled.
        names: of the remedies.
        ground: of everybody; see ``elsewhere``.
        kept: finished trials.
        tell: called with the events of a race.
        threads: as in `train_trial`.
        elsewhere: contestants that tune on another model.
        apart: runs trials side by side, and hands each back as it ends; in turns, here, when None.
        slots: how many of them at once.
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
        apart: Apart | None = None,
        slots: int = 1,
    ) -> None:
        self.options, self.recipe, self.ground, self.kept = options, recipe, ground, kept
        self.dropped: dict[str, str] = {}
        self.notes: list[str] = []
        self.q: float | None = None
        self._tell, self._threads, self._elsewhere = tell, threads, elsewhere or {}
        self._apart, self._slots = apart, slots
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
        for wave in self._waves():
            plans = [p for n in wave for who in self._still(self.tuners) for p in self._tuning(who, n, wave[0])]
            self._do(plans, first=wave[0] == 0)
        for who in self._still(self.tuners):
            self._look_at_edges(who)
        if after_tuning is not None:
            after_tuning(self)
        plans = []
        for turn, seed in enumerate(self.options.judging_seeds):
            still = self._still(self.contestants)
            turns = still[turn % len(still) :] + still[: turn % len(still)]
            plans += [plan for who in turns for plan in self.judging(who, seed)]
        self._do(plans)
        for who in self._still(self.contestants):  # who does not tune has had no first trial to refuse at
            runs = self.judged(who)
            if runs and all(e.refused for e in runs):
                self.drop(who, runs[0].refused)

    def _waves(self) -> Iterator[range]:
        """Numbers of the tuning trials that are begun together: one, and more where workers would be idle.

        The sampler knows those of the waves before, so that a race that was killed goes on as it would have. The first
        one is alone: it shows who refuses.
        """
        wide, at, many = 1, 0, self.options.trials
        while at < many:
            yield range(at, min(many, at + wide))
            at += wide
            wide = max(1, -(-self._slots // len(self._still(self.tuners))))

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

    def look_at(self, who: str) -> Ground:
        """What a contestant tunes on."""
        return self._elsewhere.get(who, self.ground)

    def _tuning(self, who: str, number: int, known: int) -> list[Plan]:
        """The trials of a setting, by the sampler from the first ``known`` ones."""
        if number == 0:
            return self._setting_plans(who, 0, as_typed(self.recipe))
        before = [setting for n in range(known) for setting in self.setting(who, n)]
        rates = self.look_at(who).rates
        params = self.kept.suggest(number, before, self.recipe, knobs_of(remedy_of(who)), rates)
        return self._setting_plans(who, number, params)

    def _setting_plans(self, who: str, number: int, params: dict[str, Any]) -> list[Plan]:
        seeds = self.look_at(who).seeds or (self.recipe.seed,)
        return [
            Plan(who, "tune", str(number) if len(seeds) == 1 else f"{number}, seed {seed}", seed, params)
            for seed in seeds
        ]

    def setting(self, who: str, number: int) -> list[tuple[dict[str, Any], float]]:
        """Parameters and score of one setting that was tuned: the median over its seeds; empty when not finished."""
        found = [self.kept.get(p) for p in self._setting_plans(who, number, {})]
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
            Plan(who, "judge", f"seed {seed}: {TYPED_KEY} × {f:g}", seed, typed | {"lr": f * typed["lr"]})
            for f in TYPED
        ]

    def judged(self, who: str) -> list[Entry]:
        """The finished runs by which a contestant is judged, in the order of the seeds."""
        found = [self.kept.get(p) for seed in self.options.judging_seeds for p in self.judging(who, seed)]
        return [e for e in found if e is not None]

    def _do(self, plans: Sequence[Plan], *, first: bool = False) -> None:
        """What of these trials is not finished; without a `Spread` one after another."""
        if self._apart is None:
            for plan in plans:
                if plan.who not in self.dropped:
                    entry = self.kept.get(plan) or self._keep(self._trial(self._job(plan), self._ground_of(plan)))
                    self._look_at_refusal(entry, first)
            return
        jobs = [self._job(plan) for plan in plans if self.kept.get(plan) is None]
        for entry in self._apart(jobs):
            self._keep(entry)
            tell_of(entry, self._tell)
        for plan in plans:
            entry = self.kept.get(plan)
            assert entry is not None, "every job has ended"
            self._look_at_refusal(entry, first)

    def _look_at_refusal(self, entry: Entry, first: bool) -> None:
        if entry.refused and first and entry.plan.who not in self.dropped:
            self.drop(entry.plan.who, entry.refused)

    def _ground_of(self, plan: Plan) -> Ground:
        """A contestant that tunes elsewhere is judged where everybody is."""
        return self.look_at(plan.who) if plan.phase == "tune" else self.ground

    def _job(self, plan: Plan) -> Job:
        # Where we tune on a shallow net and judge on the deep one, the remedy knows what it was tuned at.
        own = self.look_at(plan.who).options or {}
        number, self._next = self._next, self._next + 1
        return Job(number, plan, self.recipe, plan.phase == "tune" and plan.who in self._elsewhere, own)

    def _trial(self, job: Job, ground: Ground) -> Entry:
        return run_trial(job, ground, self._tell, self._threads, hardware(self.recipe.device))

    def _keep(self, entry: Entry) -> Entry:
        plan = entry.plan
        space = distributions(self.recipe, knobs_of(remedy_of(plan.who)), self._ground_of(plan).rates)
        self.kept.add(entry, space)
        return entry

    def _look_at_edges(self, who: str) -> None:
        side = self.edge(who)
        if side and self.options.trials > 1:
            text = f"The best rate of {who}, {self.best(who)['lr']:.3g}, is at the {side} end of the search: "
            self.note(text + "one further out may do better.")

    def edge(self, who: str) -> str:
        """Which end of the search the best rate lies at, within a sixth of a decade; empty when at none."""
        low, high = self.look_at(who).rates or (SMALLEST * self.recipe.rate, LARGEST * self.recipe.rate)
        best = self.best(who)["lr"]
        near = 10 ** (1 / 6)
        return "lowest" if best < low * near else "highest" if best > high / near else ""

    def trains(self, who: str) -> bool:
        """Whether any setting that was tuned has a finite score."""
        return any(s < WORST for n in range(self.options.trials) for _, s in self.setting(who, n))
