"""Probabilities of dropout and stochastic depth that change while a net trains."""

from __future__ import annotations

from torch import nn

from skipgrad.core.errors import BadInput

SCHEDULES = ("constant", "rising", "falling")


class DropRates:
    """Sets the probabilities of a model's dropout and stochastic depth before each step.

    ``"rising"`` goes linearly from 0 to what they are now (curriculum dropout, arXiv 1703.06229, goes there too),
    ``"falling"`` from what they are now to 0 (early dropout, arXiv 2303.01500). Modules that have a probability are
    those of ``torch.nn`` (``p``), torchvision's StochasticDepth (``p``) and timm's DropPath (``drop_prob``).

    Args:
        model: its modules' probabilities, as found, are the highest.
        steps: of the training.
        schedule: constant, rising or falling.

    Raises:
        BadInput: another schedule; or one for a model without such modules.
    """

    def __init__(self, model: nn.Module, steps: int, schedule: str = "rising") -> None:
        if schedule not in SCHEDULES:
            raise BadInput("scheduling dropout", received=repr(schedule), todo=f"give one of {', '.join(SCHEDULES)}")
        self._steps, self._schedule = max(1, steps - 1), schedule
        self._all: list[tuple[nn.Module, str, float]] = []
        for module in model.modules():
            name = _probability(module)
            if name is not None:
                self._all.append((module, name, float(getattr(module, name))))
        if schedule != "constant" and not any(most for *_, most in self._all):
            raise BadInput(
                "scheduling dropout",
                received="a model whose modules drop nothing",
                todo="leave the schedule constant, or build the model with dropout",
            )

    def set(self, step: int) -> None:
        """Sets the probabilities of ``step``, from 0."""
        if self._schedule == "constant":
            return
        part = min(1.0, step / self._steps)
        for module, name, most in self._all:
            setattr(module, name, most * (part if self._schedule == "rising" else 1 - part))

    def undo(self) -> None:
        """The probabilities are what they were."""
        for module, name, most in self._all:
            setattr(module, name, most)


def _probability(module: nn.Module) -> str | None:
    if isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ == "StochasticDepth":
        return "p"
    return "drop_prob" if type(module).__name__ == "DropPath" and module.drop_prob is not None else None
