"""What a remedy is made of: `Remedy` plans, `Plan` applies, `Applied` verifies and undoes."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from skipgrad.core.errors import BadInput, RemedyRefused
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import Measurements
from skipgrad.instrument.wrappers import peel
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.knobs import Knob
from skipgrad.remedies.records import Edit, Left, Verification

RemedyKind = Literal["model", "gradient"]


@dataclass(frozen=True)
class Plan:
    """What a remedy will do to a model: plain data to read before anything is touched.

    Attributes:
        remedy: the remedy's name.
        edits: what will be done, in order of execution.
        skipped: what is left alone, with the reason.
        lines: Python to paste into one's own code that does the same.
        bind: makes the `Applied` for a model; resolves paths, changes nothing.
        promise: what the edit does to the model's output at once, where the remedy says so.
    """

    remedy: str
    edits: tuple[Edit, ...]
    skipped: tuple[Left, ...] = ()
    lines: str = ""
    bind: Callable[[Plan, nn.Module], Applied] = field(default=None, repr=False, compare=False)  # type: ignore[assignment]
    promise: str = ""

    @property
    def reached(self) -> tuple[str, ...]:
        """The names of the skips that are edited, each once."""
        return tuple(dict.fromkeys(name for e in self.edits if e.skip for name in e.skip.split(", ")))

    def apply(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Applied:
        """Carries the plan out, all of it or nothing.

        Args:
            model: the model the graph was found in; may be wrapped by `torch.compile` or DDP.
            optimizer: needed by gradient edits; may be given later, to `Applied.attach`.

        Raises:
            RemedyRefused: the remedy is applied already, or nothing of the plan fits this model.
        """
        applied = self.bind(self, model)
        applied.start(optimizer)
        return applied

    def __str__(self) -> str:
        head = f"{self.remedy}: {len(self.edits)} edit{'s' if len(self.edits) != 1 else ''}"
        lines = [f"{head} ({self.promise})" if self.promise else head]
        return "\n".join(lines + [f"  {e}" for e in self.edits] + [f"  {s}" for s in self.skipped])


@dataclass(frozen=True)
class _Entry:
    """An edit in force. Holds no model, so that the table below keeps none alive."""

    remedy: str
    plan: weakref.ref[Plan]
    touched: frozenset[str]


# Which edits are in force on which model, in the order they were made. The only state outside an `Applied`: an edit has
# to know of later ones on the same parameters, or undoing it would put back values from before those.
_IN_FORCE: weakref.WeakKeyDictionary[nn.Module, list[_Entry]] = weakref.WeakKeyDictionary()


class Applied(ABC):
    """A remedy in force on a model. As a context manager it is undone at the end.

    Attributes:
        plan: what was planned.
        model: the model itself, without wrappers.
        skipped: what was left alone, by the plan or because of what the model turned out to be.
        repeatable: a second plan of this remedy may be applied on top.
    """

    repeatable: ClassVar[bool] = False

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        self.plan = plan
        self.given = model
        self.model, self.wrappers = peel(model)
        self.skipped: tuple[Left, ...] = plan.skipped
        self._entry: _Entry | None = None
        self._undone = False

    @property
    def lines(self) -> str:
        """Python to paste that does the same."""
        return self.plan.lines

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what did not go as planned."""
        return ()

    @abstractmethod
    def _do(self) -> None: ...  # makes the edit

    @abstractmethod
    def _revert(self) -> None:
        """Takes back whatever `_do` has done so far; called after a failure too."""

    def verify(self, evidence: Any = None) -> Verification:
        """Checks what can be checked with what is given; the model is left as it was.

        Args:
            evidence: an `Evidence`; anything else is taken as an example of the model's inputs.
        """
        return self._verify(Evidence.of(evidence))

    @abstractmethod
    def _verify(self, evidence: Evidence) -> Verification: ...

    def touched(self) -> frozenset[str]:
        """Names of the parameters whose values the edit has set."""
        return frozenset()

    def attach(self, optimizer: torch.optim.Optimizer) -> Applied:
        """Gives the edit an optimizer that was built after `apply`. Most model edits have nothing to do with it."""
        return self

    def start(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Puts the edit in force; called by `Plan.apply`."""
        name = self.plan.remedy
        entries = _IN_FORCE.setdefault(self.model, [])
        same = [e for e in entries if e.plan() is self.plan or (e.remedy == name and not self.repeatable)]
        if same or self._undone:
            raise RemedyRefused(
                f"applying {name}",
                received="a model on which it is in force already" if same else "an edit that was undone",
                todo="undo() it first, or make a new plan",
            )
        try:
            self._do()
            if optimizer is not None:
                self.attach(optimizer)
        except BaseException:
            self._revert()
            raise
        self._entry = _Entry(name, weakref.ref(self.plan), self.touched())
        entries.append(self._entry)

    def undo(self) -> None:
        """Takes the edit back: values it set are bitwise what they were, and no hook or parameter of it remains.

        Values that training changed elsewhere are kept.

        Raises:
            RemedyRefused: it was undone before, or a later remedy changed the same parameters.
        """
        name = self.plan.remedy
        if self._entry is None:
            raise RemedyRefused(
                f"undoing {name}",
                received="an edit that was undone before" if self._undone else "an edit that is not in force",
                todo="undo an edit once; plan and apply again to have it back",
            )
        entries = _IN_FORCE.get(self.model, [])
        later = entries[[e is self._entry for e in entries].index(True) + 1 :]
        over = [e.remedy for e in later if e.touched & self._entry.touched]
        if over:
            raise RemedyRefused(
                f"undoing {name}",
                received=f"{', '.join(over)} changed the same parameters after it",
                todo="undo the later edits first",
            )
        self._revert()
        entries[:] = [e for e in entries if e is not self._entry]
        self._entry, self._undone = None, True

    def __enter__(self) -> Applied:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._entry is not None:
            self.undo()


class Remedy(ABC):
    """A cure by name.

    Attributes:
        name: as it is looked up.
        title: one line for people.
        kind: ``"model"``: edits the model; ``"gradient"``: edits parameters' gradients before each step.
        by_default: whether it races when nobody names the contestants.
        knobs: options of its constructor that are worth tuning, each with the values a search tries.
        in_parts: its `treat` takes ``again``, too: a function that finds the skips of the edited model.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[RemedyKind]
    by_default: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Knob]] = MappingProxyType({})
    in_parts: ClassVar[bool] = False

    @abstractmethod
    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        """What the remedy would do to a model.

        Args:
            graph: the model's skips, as `skipgrad.find` returns them.
            measured: `Measurements`, or anything with ``.measurements()`` such as a ledger.

        Raises:
            RemedyRefused: the remedy does not apply; the message is the reason.
            MeasureError: it needs measurements that are not there.
        """

    def treat(
        self,
        model: nn.Module,
        graph: SkipGraph,
        *,
        measured: Any = None,
        measure: Callable[[nn.Module], Any] | None = None,
    ) -> Applied:
        """Plans the remedy and applies it; afterwards build the optimizer and call ``attach(optimizer)``.

        Args:
            model: edited in place.
            graph: its skips.
            measured: measurements of the untreated model.
            measure: runs a forward and a backward and returns measurements; for a remedy that measures several times.

        Raises:
            RemedyRefused: it does not apply; the model is as it was.
            MeasureError: it needs measurements that are not there.
        """
        return self.plan(graph, measured).apply(model)


def measurements_of(measured: Any, doing: str) -> Measurements | None:
    """The measurements in what a caller passed as ``measured``."""
    if measured is None or isinstance(measured, Measurements):
        return measured
    take = getattr(measured, "measurements", None)
    if not callable(take):
        raise BadInput(
            doing,
            where="measured",
            received=type(measured).__name__,
            todo="pass a Measurements, a Ledger or a Run",
        )
    found = take()
    assert isinstance(found, Measurements)
    return found


def refusal(remedy: str, reason: str, left: Sequence[Left] = (), todo: str = "") -> RemedyRefused:
    """The error of a remedy that does not apply, naming up to three of the skips left alone."""
    detail = "; ".join(f"{s.skip}: {s.reason}" for s in left[:3])
    more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
    return RemedyRefused(
        f"planning {remedy}",
        received=f"{reason}{f' ({detail}{more})' if detail else ''}",
        todo=todo or "leave this model as it is, or try another remedy",
    )
