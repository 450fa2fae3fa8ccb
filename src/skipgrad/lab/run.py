"""Runs claims: seed by seed, here or spread over processes, with every finished seed kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from skipgrad import __version__
from skipgrad.core.errors import BadInput
from skipgrad.instrument.threads import Threads
from skipgrad.lab.claim import SCALES, Claim, Progress, Scale, Setting, Tell, Values, Verdict
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.store import Result, Store, machine
from skipgrad.models import fit
from skipgrad.race.spread import Spread


@dataclass(frozen=True)
class Subject:
    """A user's own model and data, for claims that can be asked of them.

    Attributes:
        model: reference of the model.
        data: reference of the data.
        args: its arguments.
        batch_size: samples a batch.
    """

    model: str
    data: str
    args: Mapping[str, Any]
    batch_size: int = 64

    @property
    def name(self) -> str:
        """Model, arguments and data in one line."""
        args = "".join(f" {k}={v}" for k, v in self.args.items())
        return f"{self.model}{args} on {self.data}"


@dataclass(frozen=True)
class Job:
    """One seed of one claim: what a worker is told."""

    claim: str
    setting: Setting
    subject: Subject | None = None


def work(job: Job) -> tuple[Values, float]:
    """Runs one job; its figures and its wall time."""
    claim = CLAIMS.get(job.claim)
    start = time.perf_counter()
    if job.subject is None:
        values = claim.one_seed(job.setting)
    else:
        assert claim.on_model is not None
        s = job.subject
        values = claim.on_model(fit(s.model, dict(s.args), s.data, batch_size=s.batch_size), job.setting)
    return values, time.perf_counter() - start


def run_claim(
    id: str,
    *,
    quick: bool = False,
    seeds: Sequence[int] | None = None,
    tell: Tell | None = None,
    threads: Threads | None = None,
    store: Store | None = None,
    scale: Scale = "two-cores",
    subject: Subject | None = None,
    spread: Spread | None = None,
) -> Verdict:
    """Runs the experiment of a claim on every seed that the store does not have, and judges all of them.

    Args:
        id: of the claim, e.g. ``"D1"``; lower case will do (ids are in capitals).
        quick: a shorter version, whose criterion is the same; it may answer that it cannot tell.
        seeds: instead of the claim's own.
        tell: called with a `Progress` as the experiment goes on.
        threads: chooses torch's threads for claims that train, inside its ``with``; left alone when None.
        store: where finished seeds are kept and looked for; none are when None.
        scale: ``"two-cores"`` or ``"gpu"``.
        subject: a model of one's own in place of the claim's nets.
        spread: runs seeds side by side; one after another when None.

    Raises:
        UnknownName: when there is no such claim.
        BadInput: for no seeds, one named twice, or a claim that cannot be asked of a model of one's own.
        OutputError: a result cannot be kept (the disk is full); those kept before stay.
    """
    claim, chosen = _asked(id, seeds, scale, subject)
    tell = tell or (lambda _progress: None)
    name = "" if subject is None else subject.name
    known = {} if store is None else store.read(claim, quick=quick, scale=scale, model=name)
    done: dict[int, Result] = {seed: known[seed] for seed in chosen if seed in known}

    def keep(seed: int, values: Values, seconds: float) -> None:
        done[seed] = _result(claim, seed, values, seconds, quick, scale, name)
        if store is not None:
            store.write(done[seed])

    jobs = []
    for seed in chosen:
        if seed not in done:
            say = _saying(tell, claim, seed, done, chosen)
            jobs.append((seed, Job(claim.id, Setting(seed, quick, scale, threads, say), subject)))
    if spread is None:
        for seed, job in jobs:
            job.setting.say("beginning")
            keep(seed, *work(job))
    else:
        bare = {seed: replace(job, setting=Setting(seed, quick, scale)) for seed, job in jobs}
        for seed, (values, seconds) in spread.run(work, bare):
            keep(seed, values, seconds)
            tell(Progress(claim.id, len(done), len(chosen), f"seed {seed} is done"))
    tell(Progress(claim.id, len(chosen), len(chosen), "done"))
    by_seed = {seed: done[seed].values for seed in chosen}
    seconds = sum(done[seed].seconds for seed in chosen)
    if subject is None:
        return claim.verdict(by_seed, quick=quick, scale=scale, seconds=seconds)
    return claim.measured(by_seed, name, quick=quick, seconds=seconds)


def run_together(
    ids: Sequence[str],
    spread: Spread,
    store: Store,
    *,
    quick: bool = False,
    seeds: Sequence[int] | None = None,
    tell: Tell | None = None,
    scale: Scale = "two-cores",
    subject: Subject | None = None,
) -> None:
    """Runs what the store does not have of several claims, all their seeds side by side, and keeps each as it ends.

    `run_claim` then finds them there. With a claim at a time workers would idle at the end of each.

    Args:
        ids: of the claims.
        spread: where they run.
        store: where they are kept.
        quick: as in `run_claim`.
        seeds: as in `run_claim`.
        tell: called with a `Progress` that counts the seeds of all claims.
        scale: as in `run_claim`.
        subject: as in `run_claim`.

    Raises:
        UnknownName, BadInput, OutputError: as `run_claim`.
    """
    name = "" if subject is None else subject.name
    jobs: dict[tuple[str, int], Job] = {}
    total = 0
    for id in ids:
        claim, chosen = _asked(id, seeds, scale, subject)
        known = store.read(claim, quick=quick, scale=scale, model=name)
        total += len(chosen)
        jobs |= {(claim.id, s): Job(claim.id, Setting(s, quick, scale), subject) for s in chosen if s not in known}
    done = total - len(jobs)
    for (id, seed), (values, seconds) in spread.run(work, jobs):
        store.write(_result(CLAIMS.get(id), seed, values, seconds, quick, scale, name))
        done += 1
        if tell is not None:
            tell(Progress("lab", done, total, f"{id}, seed {seed} is done"))


def _asked(
    id: str, seeds: Sequence[int] | None, scale: Scale, subject: Subject | None
) -> tuple[Claim, tuple[int, ...]]:
    """The claim and its seeds, when it can be asked so."""
    claim = CLAIMS.get(id.upper())
    doing = f"running the claim {claim.id}"
    chosen = tuple(claim.seeds if seeds is None else seeds)
    if not chosen or len(set(chosen)) != len(chosen):
        raise BadInput(doing, where="seeds", received=repr(chosen), todo="give each seed once")
    if scale not in SCALES:
        raise BadInput(doing, where="scale", received=repr(scale), todo=f"give one of {', '.join(SCALES)}")
    if scale == "gpu" and not torch.cuda.is_available():
        raise BadInput(
            doing, where="scale", received="gpu, and torch sees no CUDA device here", todo="leave --scale at two-cores"
        )
    if subject is not None and claim.on_model is None:
        raise BadInput(
            f"{doing} on {subject.name}",
            received=f"a claim about nets of its own: {claim.not_on_model or claim.setting}",
            todo=f"run it without --model, or one of {', '.join(askable())} on yours",
        )
    return claim, chosen


def _result(claim: Claim, seed: int, values: Values, seconds: float, quick: bool, scale: Scale, model: str) -> Result:
    here = machine(torch.__version__)
    return Result(claim.id, seed, values, seconds, quick, scale, claim.protocol, model, __version__, here)


def askable() -> list[str]:
    """Ids of the claims that can be asked of a model of one's own."""
    return [c.id for _, c in CLAIMS.items() if c.on_model is not None]


def _saying(tell: Tell, claim: Claim, seed: int, done: Mapping[int, Result], chosen: Sequence[int]) -> Any:
    return lambda doing: tell(Progress(claim.id, len(done), len(chosen), f"seed {seed}: {doing}"))
