"""What a race trains on, by reference: built alike in this process and on every worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skipgrad.boost.held import parts
from skipgrad.boost.options import BoostOptions
from skipgrad.boost.trial import Ground
from skipgrad.models import Workload, fit
from skipgrad.race import find_skips


@dataclass(frozen=True)
class Place:
    """References, and what they are fitted with.

    Attributes:
        model: reference.
        data: reference.
        model_args: of the model's constructor.
        batch_size: samples a batch.
        device: where it is trained.
        holdout: as in `BoostOptions`.
        shallow: reference and arguments of the shallow sibling; None where there is none.
    """

    model: str
    data: str
    model_args: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    device: str = "cpu"
    holdout: float | None = None
    shallow: tuple[str, dict[str, Any]] | None = None


def place_of(options: BoostOptions, shallow: tuple[str, dict[str, Any]] | None) -> Place:
    """The place of a race."""
    recipe = options.recipe
    return Place(
        options.model, options.data, options.model_args, recipe.batch_size, recipe.device, options.holdout, shallow
    )


def workloads(place: Place) -> list[tuple[Workload, Workload | None]]:
    """What is trained and what it is evaluated on; then the same of the shallow sibling, where there is one.

    Raises:
        SkipgradError: the references do not resolve, or do not fit.
    """
    asked = [(place.model, place.model_args), *([place.shallow] if place.shallow is not None else [])]
    fitted = [fit(ref, args, place.data, batch_size=place.batch_size) for ref, args in asked]
    return [parts(workload, place.holdout) for workload in fitted]


def ground_of(workload: Workload, held: Workload | None, device: str) -> Ground:
    """A workload with its skips."""
    return Ground(workload, find_skips(workload.build().to(device), workload, device=device), held)
