"""The modules and the learned tensors of a model by what they are, for the length of one forward."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from skipgrad.finder.modules import ModuleStack


class Places(ModuleStack):
    """Tells in which module's forward a call is made, and what a learned tensor is called.

    Args:
        model: the root of the paths.
        cut: its weights are cut up by ``fully_shard``, which has others in their place inside a module's forward.

    Attributes:
        learned: ``id`` of a learned tensor → its name.
        owned: ``id`` of a buffer → its name.
    """

    def __init__(self, model: nn.Module, *, cut: bool = False) -> None:
        self.learned: dict[int, str] = {}
        self.owned: dict[int, str] = {}
        self._cut = cut
        super().__init__(model)

    def met(self, module: nn.Module, name: str) -> None:
        parameters: dict[str, Any] = module.__dict__.get("_parameters") or {}
        for key, parameter in parameters.items():
            if parameter is not None:
                self.learned.setdefault(id(parameter), f"{name}.{key}" if name else key)
        buffers: dict[str, Any] = module.__dict__.get("_buffers") or {}
        for key, buffer in buffers.items():
            if buffer is not None:
                self.owned.setdefault(id(buffer), f"{name}.{key}" if name else key)

    def entered(self, module: nn.Module, name: str) -> None:
        if self._cut and id(module) in self.names:
            self.met(module, name)

    def name_of(self, tensor: Tensor) -> str:
        """What a parameter or a buffer of the model is called; "" for any other tensor."""
        return self.learned.get(id(tensor)) or self.owned.get(id(tensor), "")
