"""Chooses the number of threads before anything counts, on a few steps that are thrown away."""

from __future__ import annotations

from dataclasses import replace

from skipgrad.core.recipe import Recipe
from skipgrad.instrument.threads import MOST_ROUNDS, WARM_UP, Threads
from skipgrad.train.protocols import WorkloadLike
from skipgrad.train.trial import train_trial

STEPS = WARM_UP + 2 * (1 + MOST_ROUNDS)  # enough for each number's first step and all rounds of both


def settle(workload: WorkloadLike, settings: Recipe, threads: Threads | None) -> None:
    """Lets ``threads`` choose, on a short trial that is thrown away. Does nothing where it has chosen or has no choice.

    All trials that count then run with one number of threads, and two checks that choose the same number give the same
    figures.

    Args:
        workload: model, data and loss.
        settings: the recipe. Its model is not compiled here: code is compiled for the number of threads.
        threads: the chooser, inside its ``with`` block; None when the number is not ours to choose.

    Raises:
        SkipgradError: what the model or its data raise.
    """
    if threads is None or threads.settled:
        return
    # The data of a short recipe may end with it.
    short = replace(settings, steps=min(STEPS, settings.steps), warmup=0.0, compile=False)
    train_trial(workload, short, threads=threads, stop=lambda _: threads.settled)
    threads.settle()
