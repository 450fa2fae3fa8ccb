"""A sick net treated by the tool itself: what its findings prescribe is done, the net trained again and looked at."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

import skipgrad as sg
from clinic.cases import Case
from clinic.treat import Record, treat
from skipgrad.core import Measurements, RemedyRefused, SkipgradError
from skipgrad.core.units import number
from skipgrad.remedies import Applied, Evidence
from skipgrad.remedies import treat as remedied

# A prescription may be followed by another, of the net as it is then.
ROUNDS = 3


@dataclass(frozen=True)
class Step:
    """One thing that the tool can do by itself.

    Attributes:
        what: the name of a remedy, ``"rate"`` or ``"float32"``.
        factor: of the rate.
    """

    what: str
    factor: float = 1.0

    def __str__(self) -> str:
        return f"rate × {number(self.factor)}" if self.what == "rate" else self.what


@dataclass(frozen=True)
class Cured:
    """What came of it.

    Attributes:
        outcome: ``"learns"`` (and its disease is named no more); ``"by hand"``: nothing that is prescribed can be done
            without a person, and the finding says what that person has to do; ``"tried"``: what could be done did not
            help, or was refused with a reason, and what is found then says what a person has to do; or ``"does not"``.
        done: what was done in the end.
        refused: prescribed, and then refused or not verified.
        alarms: of the net at last.
        loss: at its first step and at its last ones.
    """

    outcome: str
    done: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    loss: tuple[float, float] = (math.nan, math.nan)

    @property
    def told(self) -> str:
        """In a line."""
        refused = f" (refused: {', '.join(self.refused)})" if self.refused else ""
        if not self.done:
            return f"–{refused}"
        figures = f"{number(self.loss[0])} → {number(self.loss[1])}"
        return f"{', '.join(self.done)}: {figures} {', '.join(self.alarms)}{refused}"

    def row(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "outcome": self.outcome,
            "done": list(self.done),
            "refused": list(self.refused),
            "alarms": list(self.alarms),
            "loss": [float(f"{v:.4g}") if math.isfinite(v) else str(v) for v in self.loss],
        }


def steps_of(record: Record) -> list[Step]:
    """What the warnings and errors prescribe and the tool can do, what is told first first."""
    alarms = [f for f in record.findings if f.state == "found" and f.severity != "info"]
    alarms.sort(key=lambda f: f.code not in ("SG012", "SG010"))  # what is wrong with the run itself is told first
    out: list[Step] = []
    for f in alarms:
        factor = f.evidence.get("rate_factor")
        if factor is not None:
            out.append(Step("rate", float(factor)))
        if f.evidence.get("dtype_wanted"):
            out.append(Step("float32"))
        out += [Step(name) for name in f.remedies]
    return list(dict.fromkeys(out))


def cure(case: Case) -> Cured:
    """Follows the prescriptions for a few rounds, each on top of the best of the round before."""
    done: tuple[Step, ...] = ()
    refused: list[str] = []
    record = treat(case, spectrum=False)
    if not steps_of(record):
        named = bool(set(record.alarms) & set(case.disease))
        return Cured("by hand" if named else "does not", alarms=record.alarms, loss=(record.first, record.last))
    for _ in range(ROUNDS):
        trials: list[tuple[tuple[Step, ...], Record]] = []
        for more in ways(record, done):
            try:
                trials.append(((*done, *more), treat(changed(case, (*done, *more)), spectrum=False)))
            except SkipgradError as error:
                refused.append(f"{', '.join(map(str, more))}: {' '.join(str(error).split())}"[:200])
            else:
                if well(case, trials[-1][1]):
                    break
        if not trials:
            break
        done, record = min(trials, key=lambda t: (not well(case, t[1]), badness(t[1])))
        if well(case, record):
            break
    if not done:
        return Cured("tried", refused=tuple(refused), alarms=record.alarms, loss=(record.first, record.last))
    outcome = "learns" if well(case, record) else "tried" if gives_up(record) else "does not"
    return Cured(outcome, tuple(map(str, done)), tuple(refused), record.alarms, (record.first, record.last))


def well(case: Case, record: Record) -> bool:
    """Whether the net learns, gets below where a healthy one begins, and its disease is named no more."""
    within = record.last < ceiling(case)
    return record.learned and within and not set(record.alarms) & {*case.disease, "SG010", "SG012"}


@functools.cache
def ceiling(case: Case) -> float:
    """The loss of its twin before any step, where both have the same task: a loss far above it is no learning."""
    twin = case.cured
    if twin is None or twin.loss is not case.loss or twin.batches is not case.batches:
        return math.inf
    torch.manual_seed(twin.seed)
    inputs, y = twin.batches(0)
    return float(twin.loss(twin.build()(*inputs), y))


def ways(record: Record, done: tuple[Step, ...]) -> list[tuple[Step, ...]]:
    """What to try in one round: the first remedy, the first change of the training, and both at once."""
    steps = [s for s in steps_of(record) if s.what == "rate" or s not in done]
    remedies = [s for s in steps if s.what not in ("rate", "float32")]
    training = [s for s in steps if s.what in ("rate", "float32")]
    alone = [(s,) for s in (*remedies[:1], *training[:1])]
    return [*alone, (remedies[0], training[0])] if remedies and training else alone


def gives_up(record: Record) -> bool:
    """Whether what is found now says that the cause is not known, or has nothing more that the tool could do."""
    unknown = any(f.evidence.get("cause") == "not known" for f in record.findings)
    return bool(record.alarms) and (unknown or not steps_of(record))


def badness(record: Record) -> float:
    """The loss at last; nothing is worse than one that is not finite."""
    return record.last if math.isfinite(record.last) else math.inf


def changed(case: Case, done: tuple[Step, ...]) -> Case:
    """The case as it is after the treatment: a rate, weights in float32, remedies on every fresh model."""
    factor = math.prod(s.factor for s in done if s.what == "rate")
    later = None if case.changed is None else (case.changed[0], case.changed[1] * factor)
    names = [s.what for s in done if s.what not in ("rate", "float32")]
    single = any(s.what == "float32" for s in done)
    held: list[Applied] = []

    def build() -> nn.Module:
        model = case.build()
        if single:
            model = model.float()
        held[:] = [apply(name, model, case) for name in names]
        return model

    def attach(optimizer: torch.optim.Optimizer) -> None:
        for applied in held:
            applied.attach(optimizer)

    return replace(case, build=build, rate=case.rate * factor, changed=later, attach=attach)


def apply(name: str, model: nn.Module, case: Case) -> Applied:
    """Plans, applies and verifies a remedy; one that fails its own verification counts as refused."""
    inputs, y = case.batches(0)
    graph = sg.find(model, *inputs)

    def measure(net: nn.Module) -> Measurements:
        with sg.watch(net, graph, budget=None) as ledger:
            case.loss(net(*inputs), y).backward()
        net.zero_grad()
        return ledger.measurements()

    measured = measure(model)
    applied = remedied(name, model, graph, measured=measured, measure=measure)
    checks = applied.verify(Evidence(example=inputs)).checks
    failed = [c for c in checks if c.state == "failed"]
    if failed:
        raise RemedyRefused(f"verifying {name}", received=str(failed[0].what), todo="see Applied.verify()")
    return applied
