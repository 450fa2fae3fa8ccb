"""A class of its own for one module: so that compiled code is made anew for it, and its forward can be another one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

# What a marked class keeps: the class it stands for, and the token it was marked with.
OF, TOKEN = "skipgrad_of", "skipgrad_token"

Around = Callable[..., Any]


def mark(module: nn.Module, around: Around | None = None) -> object:
    """Gives a module a class of its own, equal to its class in all but identity.

    `torch.compile` does not guard on hooks: code compiled for a model without an edit (the same class, another
    instance) would be run for the one with it. It does guard on the classes of the modules it calls.
    `torch.nn.utils.parametrize` and FSDP change a module's class in the same way.

    Args:
        module: the module.
        around: called as ``around(module, forward, *args, **kwargs)`` in place of the forward.

    Returns:
        A token for `unmark`.
    """
    token = object()
    module.__class__ = _over(type(module), around, token)
    return token


def unmark(module: nn.Module, token: object) -> None:
    """Takes one mark off a module; those made before and after it stay."""
    kept: list[tuple[Around | None, object]] = []
    cls = type(module)
    while cls.__dict__.get(TOKEN) is not token:
        kept.append((cls.__dict__["skipgrad_around"], cls.__dict__[TOKEN]))
        cls = cls.__dict__[OF]
    cls = cls.__dict__[OF]
    for around, other in reversed(kept):
        cls = _over(cls, around, other)
    module.__class__ = cls


def _over(cls: type[nn.Module], around: Around | None, token: object) -> type[nn.Module]:
    names: dict[str, Any] = {
        "__module__": cls.__module__,
        OF: cls,
        TOKEN: token,
        "skipgrad_around": staticmethod(around) if around else None,
    }
    if around is not None:
        below = cls.forward

        @functools.wraps(below)
        def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return around(self, functools.partial(below, self), *args, **kwargs)

        names["forward"] = forward
    return type(cls.__name__, (cls,), names)
