"""The remedies by name, the most promising first: each registers itself with its rank."""

from __future__ import annotations

import inspect
from typing import Any

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import Registry, nearest
from skipgrad.remedies.plan import Remedy

REMEDIES: Registry[Remedy] = Registry("remedy", Remedy, home="skipgrad.remedies", group="skipgrad.remedies", key="name")


def remedy(name: str, **options: Any) -> Remedy:
    """The remedy called ``name``, with its own settings where options are given.

    Raises:
        UnknownName: with the nearest names.
        BadInput: an option that it does not have.
    """
    found = REMEDIES.get(name)
    if not options:
        return found
    known = [p for p in inspect.signature(type(found)).parameters if p not in ("args", "kwargs")]
    for option in options:
        if option not in known:
            raise BadInput(
                f"setting up {name}",
                received=f"{option}={options[option]!r}",
                todo=nearest(option, known) if known else f"{name} has no options",
            )
    return type(found)(**options)
