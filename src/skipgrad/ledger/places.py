"""The modules and the learned tensors of a model by what they are, for the length of one forward."""

from __future__ import annotations

from typing import Any

from torch import nn

from skipgrad.finder.modules import ModuleStack


class Places(ModuleStack):
    """Tells in which module's forward a call is made, and what a learned tensor is called.

    Args:
        model: the root of the paths.
        cut: its weights are cut up by ``fully_shard``, which has others in their place inside a module's forward.

    Attributes:
        learned: ``id`` of a learned tensor → its name.
    """

    def __init__(self, model: nn.Module, *, cut: bool = False) -> None:
        super().__init__(model)
        self.learned: dict[int, str] = {}
        self._cut = cut
        for module, name in [(m, self.names[id(m)]) for m in model.modules()]:
            self._learn(module, name)

    def entered(self, module: nn.Module, name: str) -> None:
        if self._cut and id(module) in self.names:
            self._learn(module, name)

    def _learn(self, module: nn.Module, name: str) -> None:
        parameters: dict[str, Any] = module.__dict__.get("_parameters") or {}
        for key, parameter in parameters.items():
            if parameter is not None:
                self.learned.setdefault(id(parameter), f"{name}.{key}" if name else key)
