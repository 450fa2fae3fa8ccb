"""Every claim by its id, and how one is run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import Registry
from skipgrad.instrument.threads import Threads
from skipgrad.lab.claim import Claim, Progress, Tell, Verdict, state_of

CLAIMS: Registry[Claim] = Registry("claim", Claim, home="skipgrad.lab.claims", group="skipgrad.claims", key="id")


def run_claim(
    id: str,
    *,
    quick: bool = False,
    seeds: Sequence[int] | None = None,
    tell: Tell | None = None,
    threads: Threads | None = None,
) -> Verdict:
    """Runs the experiment of a claim.

    Args:
        id: of the claim, e.g. ``"D1"``; lower case will do (ids are in capitals).
        quick: a shorter version, whose criterion is the same; it may answer that it cannot tell.
        seeds: instead of the claim's own.
        tell: called with a `Progress` as the experiment goes on.
        threads: chooses torch's threads for claims that train, inside its ``with``; left alone when None.

    Raises:
        UnknownName: when there is no such claim.
        BadInput: for no seeds, or one named twice.
    """
    claim = CLAIMS.get(id.upper())
    chosen = tuple(claim.seeds if seeds is None else seeds)
    if not chosen or len(set(chosen)) != len(chosen):
        raise BadInput(
            f"running the claim {claim.id}", where="seeds", received=repr(chosen), todo="give each seed once"
        )
    start = time.perf_counter()
    given = {"threads": threads} if claim.trains else {}
    outcome = claim.experiment(quick, chosen, tell or _nothing, **given)
    return Verdict(
        claim.id,
        state_of(outcome.figures),
        outcome.reason,
        claim.criterion,
        outcome.setting,
        outcome.figures,
        quick,
        time.perf_counter() - start,
    )


def _nothing(progress: Progress) -> None:
    """Nobody listens."""
