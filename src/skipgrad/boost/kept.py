"""Finished trials in a folder: an Optuna study a contestant, in one SQLite file that outlives a kill."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from skipgrad.boost.entry import Entry, Plan
from skipgrad.boost.space import distributions
from skipgrad.core.errors import BadInput, OutputError
from skipgrad.core.extras import wanted
from skipgrad.core.recipe import Recipe
from skipgrad.remedies.knobs import Knob

STUDY = "study.sqlite"
DOING = "opening the study of a race"
_ABOUT = "skipgrad boost"
_MEASURED = "skipgrad boost, measured beside"
_RANDOM = 4  # trials before the sampler goes by what it has seen


class Kept:
    """The finished trials of a race, read from its folder and added to it one by one.

    A trial is written whole when it is finished, in one transaction: after a kill it is there or it is not.

    Args:
        folder: where the study is or will be.
        identity: what the trials are of; a study of something else is refused.

    Raises:
        MissingExtra: Optuna is not installed.
        BadInput: a study of another model, data, recipe or version.
        OutputError: a file that is no study, or cannot be written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        need_optuna()
        import optuna
        from sqlalchemy import URL, NullPool
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.path = folder / STUDY
        self._optuna = optuna
        url = URL.create("sqlite", database=str(self.path)).render_as_string()
        try:
            # No pool: a connection an operation, so that none is left open where the study is refused below.
            engine = {"connect_args": {"timeout": 60}, "poolclass": NullPool}
            self._storage = optuna.storages.RDBStorage(url, engine_kwargs=engine)
            about = self._study(_ABOUT)
            known = dict(about.user_attrs)
        except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:
            raise OutputError(
                DOING,
                where=str(self.path),
                received=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
                todo="name another folder with --out, or take this file away",
            ) from error
        if not known:
            for name, value in identity.items():
                about.set_user_attr(name, value)
        elif known != dict(identity):
            raise self._another(known, identity)
        self._entries: dict[tuple[str, str, str], Entry] = {}
        for study in self._storage.get_all_studies():
            who, _, phase = study.study_name.rpartition(": ")
            if who:
                for trial in self._storage.get_all_trials(study._study_id, deepcopy=False):
                    self._hold(Entry.of(who, phase, trial.user_attrs["entry"], len(self._entries)))

    def _another(self, known: Mapping[str, Any], identity: Mapping[str, Any]) -> BadInput:
        names = [n for n in identity if known.get(n) != identity[n]]
        told = ", ".join(f"{n} {known.get(n)!r} in place of {identity[n]!r}" for n in names[:3])
        return BadInput(
            DOING,
            where=str(self.path),
            received=f"trials of another race: {told}",
            todo="name another folder with --out; trials of two races cannot be compared",
        )

    def _study(self, name: str) -> Any:
        return self._optuna.create_study(study_name=name, storage=self._storage, load_if_exists=True)

    def _hold(self, entry: Entry) -> None:
        self._entries[entry.plan.who, entry.plan.phase, entry.plan.key] = entry

    def close(self) -> None:
        """Lets go of the file."""
        self._storage.engine.dispose()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[Entry]:
        """All finished trials, in the order of their numbers."""
        return sorted(self._entries.values(), key=lambda e: e.result.trial.id)

    def get(self, plan: Plan) -> Entry | None:
        """The finished trial of a plan, if it is finished."""
        return self._entries.get((plan.who, plan.phase, plan.key))

    def add(self, entry: Entry, space: Mapping[str, Any]) -> None:
        """Keeps a finished trial. ``space`` is that of its parameters, for whoever opens the study with Optuna."""
        params = {k: v for k, v in entry.plan.params.items() if k in space and space[k]._contains(_inner(space[k], v))}
        trial = self._optuna.trial.create_trial(
            params=params,
            distributions={k: space[k] for k in params},
            value=entry.score,
            user_attrs={"entry": entry.attrs()},
        )
        self._study(f"{entry.plan.who}: {entry.plan.phase}").add_trial(trial)
        self._hold(entry)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, as plain data: made once and kept under a name."""
        study = self._study(_MEASURED)
        known = study.user_attrs
        if name not in known:
            study.set_user_attr(name, make())
            return study.user_attrs[name]
        return known[name]

    def suggest(
        self,
        number: int,
        before: list[tuple[dict[str, Any], float]],
        recipe: Recipe,
        knobs: Mapping[str, Knob],
        rates: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """The parameters of tuning trial ``number``, by Optuna's TPE from those before it and their scores.

        It is a function of these alone, so that a race that was killed goes on as it would have. All contestants share
        the sampler's seeds: the first draws are at the same rates.
        """
        optuna = self._optuna
        space = distributions(recipe, knobs, rates)
        sampler = optuna.samplers.TPESampler(seed=1000 * recipe.seed + number, n_startup_trials=_RANDOM)
        study = optuna.create_study(sampler=sampler)
        for params, value in before:
            inside = {k: v for k, v in params.items() if k in space}
            study.add_trial(
                optuna.trial.create_trial(params=inside, distributions={k: space[k] for k in inside}, value=value)
            )
        return dict(study.ask(space).params)


def steps_kept(folder: Path) -> int | None:
    """The steps of a trial of the study that is in a folder; None where there is none."""
    if not (folder / STUDY).exists():
        return None
    try:
        with closing(sqlite3.connect(folder / STUDY)) as file:
            query = "SELECT value_json FROM study_user_attributes WHERE key = 'recipe'"
            row = file.execute(query).fetchone()
        return int(json.loads(row[0])["steps"]) if row else None
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        return None  # what is wrong with it is told when it is opened


def need_optuna() -> None:
    """Raises MissingExtra when Optuna is not installed."""
    with wanted("tune", "racing with equal tuning"):
        import optuna  # noqa: F401
        import scipy.stats  # noqa: F401


def _inner(distribution: Any, value: Any) -> float:
    try:
        return distribution.to_internal_repr(value)
    except ValueError:
        return float("nan")
