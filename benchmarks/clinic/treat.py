"""Trains a net of the clinic under the ledger, and says what was found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

import skipgrad as sg
from clinic.cases import Case
from skipgrad.core import Finding, MeasureError


@dataclass(frozen=True)
class Record:
    """What became of one case.

    Attributes:
        name: of the case.
        first: loss at the start.
        last: loss at the end, median of the last tenth.
        alarms: codes of warnings and errors.
        hints: codes of infos.
        said: code → sentence, of all that was found.
    """

    name: str
    first: float
    last: float
    alarms: tuple[str, ...]
    hints: tuple[str, ...]
    said: dict[str, str]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether any step left rows; else no check of the gradient had a say."""
        return self.findings[0].coverage["steps"] > 0

    @property
    def learned(self) -> bool:
        """Whether the loss is down by a tenth."""
        return self.last < self.first - 0.1 * abs(self.first)


def optimizer_of(case: Case, parameters: Any) -> torch.optim.Optimizer:
    """The optimizer a case names."""
    if case.optimizer == "sgd":
        return torch.optim.SGD(parameters, case.rate, momentum=0.9)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    return kinds[case.optimizer](parameters, case.rate)


def trained(case: Case, model: nn.Module) -> list[nn.Parameter]:
    """What the optimizer of a case is given."""
    if case.parameters is not None:
        return case.parameters(model)
    return [p for p in model.parameters() if p.requires_grad and not getattr(p, "left_out", False)]


def rate_at(case: Case, step: int) -> float:
    """The learning rate of a step."""
    rate = case.changed[1] if case.changed and step >= case.changed[0] else case.rate
    return rate * min(1.0, (step + 1) / case.warm) if case.warm else rate


def steps(
    case: Case, model: nn.Module, optimizer: torch.optim.Optimizer, told: Callable[[float], object] | None = None
) -> list[float]:
    """Trains as the case's owner would; the loss of each step, which ``told`` gets before its backward."""
    losses: list[float] = []
    for step in range(case.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(case, step)
        now, target = case.batches(step)
        if not case.keeps_gradient:
            optimizer.zero_grad()
        loss = case.loss(model(*now), target)
        losses.append(loss.item())
        if told is not None:
            told(losses[-1])
        loss.backward()
        optimizer.step()
    return losses


def treat(case: Case, spectrum: bool = True) -> Record:
    """Trains a case as its owner would, with the path spectrum before the first step and after the last, or not."""
    torch.manual_seed(case.seed)
    model = case.build()
    inputs, y = case.batches(0)
    graph = sg.find(model, *inputs)
    optimizer = optimizer_of(case, trained(case, model))
    if case.attach is not None:
        case.attach(optimizer)
    with sg.watch(model, graph, optimizer, every=case.every) as ledger:

        def paths() -> None:
            with contextlib.suppress(MeasureError):
                ledger.spectrum(sg.path_spectrum(model, graph, inputs, lambda out: case.loss(out, y)))

        if spectrum:
            paths()
        losses = steps(case, model, optimizer, ledger.loss)
        if spectrum and losses[-1] == losses[-1]:
            paths()
    findings = sg.diagnose(ledger, chance=case.chance)
    told = {f.code: f for f in findings if f.state == "found"}
    return Record(
        case.name,
        losses[0],
        median(losses[-max(1, len(losses) // 10) :]),
        tuple(c for c, f in told.items() if f.severity != "info"),
        tuple(c for c, f in told.items() if f.severity == "info"),
        {c: f"{f.severity}: {f.prescription}" for c, f in told.items()},
        findings,
        tuple(ledger.notes),
    )
