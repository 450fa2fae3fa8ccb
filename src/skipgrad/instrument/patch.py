"""Puts a function of ours between a model's caller and its forward for a time, and takes it away without a trace."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from skipgrad.instrument.state import eagerly

_ABSENT = object()


class ForwardPatch:
    """Stands in for a model's call and passes each call through `around`.

    It is put where ``model.compile()`` puts its compiled call, which ``model(…)`` looks for first: torch leaves it out
    of copies and pickles, so that one made meanwhile is not watched and does not know of us. What
    ``torch.compile(model)`` returns is patched outside the compiled region, at its ``forward``, which is left out, too.

    Args:
        model: the module the user calls.
        around: gets (original, args, kwargs) and returns what the call returns.
    """

    def __init__(self, model: nn.Module, around: Callable[[Callable[..., Any], Any, Any], Any]) -> None:
        self.model = model
        self.around = around
        self.attribute = "forward" if "_orig_mod" in model.__dict__.get("_modules", {}) else "_compiled_call_impl"
        self.kept: Any = model.__dict__.get(self.attribute, _ABSENT)
        original = getattr(model, self.attribute)
        self.original: Callable[..., Any] = model._call_impl if original is None else original
        self.removed = False
        self._compiled = self.attribute == "forward" or original is not None
        self._apart: Callable[..., Any] | None = None
        functools.update_wrapper(self, self.original, updated=())
        model.__dict__[self.attribute] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.removed:
            return self.original(*args, **kwargs)
        if self._compiled and "torch._dynamo" in sys.modules:
            # If the caller is compiled, the compiler would otherwise try to trace what the watch does.
            apart = self._apart = self._apart or sys.modules["torch._dynamo"].disable(self.around)
            return apart(self.original, args, kwargs)
        return self.around(self.original, args, kwargs)

    # As `torch.compiler.disable` marks a function, without importing the compiler.
    __call__._torchdynamo_disable = True  # type: ignore[attr-defined]
    __call__._torchdynamo_disable_msg = (  # type: ignore[attr-defined]
        "it is watched by skipgrad; compile the model, not the function around it, and watch the compiled model"
    )

    def remove(self) -> None:
        """Puts back what was there before.

        Where another watch has been put on top, this one is only switched off; it goes when the upper one goes.
        """
        self.removed = True
        attributes = self.model.__dict__
        while isinstance(top := attributes.get(self.attribute), ForwardPatch) and top.removed:
            if top.kept is _ABSENT:
                del attributes[self.attribute]
            else:
                attributes[self.attribute] = top.kept


def compiled_call(model: nn.Module) -> Any:
    """The compiled call that ``model.compile()`` has made, under whatever stands in for it; None when there is none."""
    found = model.__dict__.get("_compiled_call_impl")
    while isinstance(found, ForwardPatch):
        found = None if found.kept is _ABSENT else found.kept
    return found


@contextlib.contextmanager
def inside(
    model: nn.Module,
    mode: contextlib.AbstractContextManager[Any],
    around: Callable[[Callable[..., Any], Any, Any], Any] | None = None,
) -> Iterator[None]:
    """Inside the block, a call of the model enters the mode within its forward; it runs eagerly and past any watch.

    The mode is entered within the forward and not around the call, because the module's hooks, and whatever wraps it,
    make calls of their own.

    Args:
        model: the module that is called.
        mode: what is entered.
        around: gets (forward, args, kwargs) outside the mode, and returns what the forward returns.
    """
    attributes = model.__dict__
    kept = {name: attributes[name] for name in ("forward", "_compiled_call_impl") if name in attributes}
    original = model.forward
    while isinstance(original, ForwardPatch):
        original = original.original  # a watch is not to count this forward

    def within(*args: Any, **kwargs: Any) -> Any:
        with mode:
            return original(*args, **kwargs)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return within(*args, **kwargs) if around is None else around(within, args, kwargs)

    attributes["forward"] = forward
    attributes.pop("_compiled_call_impl", None)
    try:
        with eagerly():
            yield
    finally:
        attributes.pop("forward", None)
        attributes.update(kept)
