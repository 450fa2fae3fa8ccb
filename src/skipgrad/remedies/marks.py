"""A class of its own for one module: so that compiled code is made anew for it, and its forward can be another one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

# What a marked class keeps: the class it stands for, and the token it was marked with.
OF, TOKEN, AROUND, MORE = "skipgrad_of", "skipgrad_token", "skipgrad_around", "skipgrad_more"

Around = Callable[..., Any]


def mark(module: nn.Module, around: Around | None = None, more: Mapping[str, Any] | None = None) -> object:
    """Gives a module a class of its own, equal to its class in all but identity.

    `torch.compile` does not guard on hooks: code compiled for a model without an edit (the same class, another
    instance) would be run for the one with it. It does guard on the classes of the modules it calls.
    `torch.nn.utils.parametrize` and FSDP change a module's class in the same way.

    Args:
        module: the module.
        around: called as ``around(module, forward, *args, **kwargs)`` in place of the forward.
        more: attributes of the class.

    Returns:
        A token for `unmark`.
    """
    token = object()
    module.__class__ = _over(type(module), around, token, more or {})
    return token


def unmark(module: nn.Module, token: object) -> None:
    """Takes one mark off a module; those made before and after it stay."""
    kept: list[tuple[Around | None, object, Mapping[str, Any]]] = []
    cls = type(module)
    while cls.__dict__.get(TOKEN) is not token:
        kept.append((cls.__dict__[AROUND], cls.__dict__[TOKEN], cls.__dict__[MORE]))
        cls = cls.__dict__[OF]
    cls = cls.__dict__[OF]
    for one in reversed(kept):
        cls = _over(cls, *one)
    module.__class__ = cls


def _over(cls: type[nn.Module], around: Around | None, token: object, more: Mapping[str, Any]) -> type[nn.Module]:
    names: dict[str, Any] = {
        **more,
        "__module__": cls.__module__,
        OF: cls,
        TOKEN: token,
        AROUND: staticmethod(around) if around else None,
        MORE: more,
    }
    if around is not None:
        below = cls.forward

        @functools.wraps(below)
        def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return around(self, functools.partial(below, self), *args, **kwargs)

        names["forward"] = forward
    return type(cls.__name__, (cls,), names)
