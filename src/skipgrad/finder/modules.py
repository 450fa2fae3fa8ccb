"""Which module's forward is running: the stack of modules whose calls have begun and not ended."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn


class ModuleStack:
    """Follows the calls of modules by global hooks, for as long as it is entered, in the thread that entered it.

    Args:
        model: the root of the paths; a module that is not inside it goes by the path of its caller.

    Attributes:
        names: ``id`` of a module → its path.
        path: paths of the modules whose forward is running, outermost first.
        ran: names of the modules that were called.
        deepest: the module called last; where an error came from.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names: dict[int, str] = {}
        for name, module in model.named_modules():
            self.names[id(module)] = name
            self.met(module, name)
        self.path: list[str] = [""]
        self.ran: set[str] = set()
        self.deepest = ""
        self._handles: list[Any] = []
        self._thread = 0

    def met(self, module: nn.Module, name: str) -> None:
        """Called with each of the model's modules, once; `name` is its path."""

    def entered(self, module: nn.Module, name: str) -> None:
        """Called when a module is called; `name` is its path."""

    def _enter(self, module: nn.Module, _args: Any) -> None:
        if threading.get_ident() != self._thread:  # these hooks see the modules of all threads
            return
        name = self.names.get(id(module), self.path[-1])
        self.ran.add(name)
        self.path.append(name)
        self.deepest = name
        self.entered(module, name)

    def _leave(self, _module: nn.Module, _args: Any, _out: Any) -> None:
        if threading.get_ident() == self._thread and len(self.path) > 1:
            self.path.pop()

    def __enter__(self) -> ModuleStack:
        self._thread = threading.get_ident()
        hooks = torch.nn.modules.module
        self._handles = [
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(self, *_exc: object) -> None:
        for handle in self._handles:
            handle.remove()
