"""Puts a function of ours between a model's caller and its forward for a time, and takes it away without a trace."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from skipgrad.instrument.state import eagerly

_ABSENT = object()


class ForwardPatch:
    """Stands in for ``model.forward`` (or its compiled call) and passes each call through `around`.

    Args:
        model: the module the user calls; a ``torch.compile``d one is patched outside the compiled region.
        around: gets (original, args, kwargs) and returns what the call returns.
    """

    def __init__(self, model: nn.Module, around: Callable[[Callable[..., Any], Any, Any], Any]) -> None:
        self.model = model
        self.around = around
        # ``model.compile()`` keeps its compiled call in this attribute; everything else goes through forward.
        self.attribute = "_compiled_call_impl" if model.__dict__.get("_compiled_call_impl") else "forward"
        self.kept: Any = model.__dict__.get(self.attribute, _ABSENT)
        self.original: Callable[..., Any] = getattr(model, self.attribute)
        self.removed = False
        # So that the patch has the signature of the forward: transformers' Trainer, say, picks columns of data by it.
        functools.update_wrapper(self, self.original, updated=())
        model.__dict__[self.attribute] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.removed:
            return self.original(*args, **kwargs)
        if "torch._dynamo" in sys.modules:
            # If the caller is compiled, the compiler would otherwise try to trace what the watch does.
            return sys.modules["torch._dynamo"].disable(self.around)(self.original, args, kwargs)
        return self.around(self.original, args, kwargs)

    # As `torch.compiler.disable` marks a function, without importing the compiler.
    __call__._torchdynamo_disable = True  # type: ignore[attr-defined]
    __call__._torchdynamo_disable_msg = (  # type: ignore[attr-defined]
        "it is watched by skipgrad; compile the model, not the function around it, and watch the compiled model"
    )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy of a watched model (an average of weights, say) is not watched.
        copy = memo.get(id(self.model))
        if copy is None or self.attribute != "forward":
            return self.original
        return types.MethodType(type(self.model).forward, copy)

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
