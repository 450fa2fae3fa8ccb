"""From the name of a remedy to what prepares a fresh model with it.

The training room knows no remedies: whoever calls hands in their `treat`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn

from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import Measurements
from skipgrad.finder import find
from skipgrad.instrument.faults import explained
from skipgrad.instrument.state import kept
from skipgrad.ledger import watch
from skipgrad.train.protocols import Prepare, Treatment, WorkloadLike


class Treat(Protocol):
    """`skipgrad.remedies.treat`: plans a remedy for a model and applies it."""

    def __call__(
        self, name: str, model: nn.Module, graph: SkipGraph, *, measure: Callable[[nn.Module], Measurements]
    ) -> Treatment: ...


def prepare_with(
    treat: Treat,
    name: str,
    workload: WorkloadLike,
    *,
    device: str = "cpu",
    graph: SkipGraph | None = None,
    lines: dict[str, str] | None = None,
) -> Prepare:
    """What applies the remedy ``name`` to a fresh model of ``workload``.

    The skips are those of the first model it is called with (or ``graph``): every model the workload builds has the
    same. A remedy that needs figures gets them from one forward and backward over one batch under a ledger, which
    leaves gradients, buffers and random states as they were.

    Args:
        treat: `skipgrad.remedies.treat`, or anything like `Treat`.
        name: the remedy's.
        workload: where the example and the batch come from.
        device: where the models are.
        graph: the skips, if they are known already.
        lines: gets, under the remedy's name, the Python that applies it.

    Returns:
        A callable for `train_trial` and `race`. It raises `RemedyRefused` when the remedy does not apply.
    """
    known = graph

    def prepare(model: nn.Module) -> Treatment:
        nonlocal known
        if known is None:
            known = find_skips(model, workload, device=device)
        skips = known

        def measure(model: nn.Module) -> Measurements:
            return measure_once(model, skips, workload, device=device)

        treatment = treat(name, model, skips, measure=measure)
        if lines is not None:
            lines[name] = getattr(treatment, "lines", "")
        return treatment

    return prepare


def find_skips(model: nn.Module, workload: WorkloadLike, *, device: str = "cpu") -> SkipGraph:
    """The skips of a model of ``workload``, traced with its example."""
    example = workload.example.to(torch.device(device))
    with kept(model):
        return find(model, *example.args, **example.kwargs)


def measure_once(
    model: nn.Module,
    graph: SkipGraph,
    workload: WorkloadLike,
    *,
    device: str = "cpu",
    seed: int = 0,
) -> Measurements:
    """The ledger of one forward and backward over the first batch of ``seed``; the model is left as it was.

    It runs without autocast whatever the training's number format is: the shares of skip and branch are the same, and
    nothing underflows.
    """
    place = torch.device(device)
    batch = next(workload.batches(seed)).to(place)
    doing = f"measuring one batch of {workload.name}"
    with kept(model):
        model.train()
        with watch(model, graph) as ledger, explained(model, doing, batch.args, batch.kwargs):
            workload.loss(model(*batch.args, **batch.kwargs), batch).backward()
        return ledger.measurements()
