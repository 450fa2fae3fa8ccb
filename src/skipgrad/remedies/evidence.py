"""What an applied remedy can be verified with: inputs of the model, measurements, a loss. Each is optional."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Evidence:
    """What a verification may use; what is missing leaves the checks that need it "not applicable".

    Attributes:
        example: positional inputs of the model: a tensor, or a tuple of arguments.
        kwargs: its keyword inputs.
        measured: measurements taken after the edit: a `Measurements`, or anything with ``.measurements()``.
        loss: a function without arguments that runs the model and returns a loss.
    """

    example: Any = None
    kwargs: dict[str, Any] | None = None
    measured: Any = None
    loss: Callable[[], torch.Tensor] | None = None

    @classmethod
    def of(cls, given: Any) -> Evidence:
        """Makes an `Evidence` of what a caller passed: anything that is none is taken as an example of the inputs."""
        return given if isinstance(given, Evidence) else cls(given)

    @property
    def has_inputs(self) -> bool:
        """Whether the model can be run on it."""
        return self.example is not None or bool(self.kwargs)

    def run(self, model: nn.Module) -> Any:
        """What the model returns for the inputs."""
        example = self.example
        args = tuple(example) if isinstance(example, tuple | list) else () if example is None else (example,)
        return model(*args, **(self.kwargs or {}))
