"""The remedies by name, the most promising first: each registers itself with its rank."""

from __future__ import annotations

from skipgrad.core.registry import Registry
from skipgrad.remedies.plan import Remedy

REMEDIES: Registry[Remedy] = Registry("remedy", Remedy, home="skipgrad.remedies", group="skipgrad.remedies", key="name")


def remedy(name: str) -> Remedy:
    """The remedy called ``name``.

    Raises:
        UnknownName: with the nearest names.
    """
    return REMEDIES.get(name)
