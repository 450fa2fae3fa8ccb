"""A named collection that answers a wrong name with the nearest right ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from skipgrad.core.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to things, in order of registration.

    Args:
        noun: what the entries are, for messages (``"remedy"``).
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._entries: dict[str, T] = {}

    def register(self, name: str, thing: T) -> T:
        """Adds ``thing`` under ``name``; a name is given once."""
        assert name not in self._entries, f"{self.noun} {name!r} is registered twice"
        self._entries[name] = thing
        return thing

    def add(self, name: str) -> Callable[[T], T]:
        """The same as :meth:`register`, as a decorator."""
        return lambda thing: self.register(name, thing)

    def get(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            UnknownName: with the nearest names.
        """
        if name not in self._entries:
            raise UnknownName(
                f"looking up the {self.noun} {name!r}",
                received=f"no {self.noun} of that name",
                todo=nearest(name, self._entries),
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def items(self) -> list[tuple[str, T]]:
        """Names and entries, in order of registration."""
        return list(self._entries.items())


def nearest(name: str, names: object, many: int = 4) -> str:
    """A sentence that offers the names closest to ``name`` (all of them when there are few)."""
    known = [str(n) for n in names]  # type: ignore[attr-defined]
    close = difflib.get_close_matches(name, known, n=many, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(close) + "?"
    if len(known) <= 12:
        return "known: " + ", ".join(known)
    return f"known: {', '.join(known[:8])} … ({len(known)} in all)"
