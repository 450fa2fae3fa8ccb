"""Makes, from the name of a remedy, the function that applies it to a fresh model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import Measurements
from skipgrad.finder import find
from skipgrad.instrument.faults import explained
from skipgrad.instrument.state import kept
from skipgrad.ledger import watch
from skipgrad.remedies import remedy
from skipgrad.train.protocols import Prepare, Treatment, WorkloadLike


def prepare_with(
    name: str,
    workload: WorkloadLike,
    *,
    device: str = "cpu",
    graph: SkipGraph | None = None,
    options: Mapping[str, Any] | None = None,
) -> Prepare:
    """The function that applies the remedy ``name`` to a fresh model of ``workload``.

    Every model that the workload builds has the same skips, so they are found once, in the first model the function is
    called with (or taken from ``graph``). A remedy that needs figures gets them from one forward and backward over one
    batch under a ledger, which leaves gradients, buffers and random states as they were.

    Args:
        name: the name of the remedy.
        workload: where the example and the batch come from.
        device: the device the models are on.
        graph: the skips, if they are known already.
        options: settings of the remedy's own.

    Returns:
        A callable for `train_trial` and `race`. It raises `RemedyRefused` when the remedy does not apply.

    Raises:
        UnknownName: no such remedy.
        BadInput: an option that it does not have.
    """
    cure = remedy(name, **(options or {}))
    known = graph

    def prepare(model: nn.Module) -> Treatment:
        nonlocal known
        if known is None:
            known = find_skips(model, workload, device=device)
        skips = known

        def measure(model: nn.Module) -> Measurements:
            return measure_once(model, skips, workload, device=device)

        def again(model: nn.Module) -> SkipGraph:
            return find_skips(model, workload, device=device)

        more: dict[str, Any] = {"again": again} if getattr(cure, "in_parts", False) else {}
        return cure.treat(model, skips, measure=measure, **more)

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
    """What a ledger measures in one forward and backward over the first batch of ``seed``; the model is left as it was.

    There is no autocast, whatever number format the training has: the shares of skip and branch are the same without,
    and nothing underflows.
    """
    place = torch.device(device)
    batch = next(workload.batches(seed)).to(place)
    doing = f"measuring one batch of {workload.name}"
    with kept(model):
        model.train()
        with watch(model, graph, budget=None) as ledger, explained(model, doing, batch.args, batch.kwargs):
            workload.loss(model(*batch.args, **batch.kwargs), batch).backward()
        return ledger.measurements()
