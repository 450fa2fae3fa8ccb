"""A named collection that finds its entries itself, and answers a wrong name with the nearest right ones."""

from __future__ import annotations

import difflib
import importlib
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Generic, TypeVar

from skipgrad.core.errors import UnknownName
from skipgrad.core.plugins import Head, LeftOut, heads, modules, package_of, points

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to things.

    Built-in entries come first, by rank, then by name; then those of other packages, by package and name. A registry
    without a ``home`` keeps the order of registration.

    Args:
        noun: what the entries are, for messages (``"remedy"``).
        kind: their class; what another package brings is checked against it.
        home: the package whose modules register the built-in entries when they are imported, which is done at the first
            look into the registry – so that a module may import the registry it registers with.
        group: the group of entry points in which other packages name theirs (``"skipgrad.remedies"``).
        key: the attribute in which an entry holds its own name, where it does.
        on_demand: a module is imported when its entry is asked for. Names are then those of the modules' first lines:
            see `skipgrad.core.plugins.heads`.
    """

    def __init__(
        self,
        noun: str,
        kind: type[T] | None = None,
        *,
        home: str = "",
        group: str = "",
        key: str = "",
        on_demand: bool = False,
    ) -> None:
        self.noun = noun
        self._kind, self._home, self._group, self._key, self._on_demand = kind, home, group, key, on_demand
        self._entries: dict[str, T] = {}
        self._ranks: dict[str, int] = {}
        self._notes: list[str] = []
        self._told = 0
        self._points: dict[str, EntryPoint] = {}  # those that count; none before the built-in entries are there
        self._filled = not home and not group
        self._filling = False
        self._lock = threading.RLock()

    def register(self, name: str, thing: T, rank: int = 0) -> T:
        """Adds ``thing`` under ``name``; a name is given once. Entries of a lower ``rank`` come first."""
        assert name not in self._entries, f"{self.noun} {name!r} is registered twice"
        self._entries[name] = thing
        self._ranks[name] = rank
        return thing

    def add(self, name: str, rank: int = 0) -> Callable[[T], T]:
        """The same as :meth:`register`, as a decorator."""
        return lambda thing: self.register(name, thing, rank)

    def get(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            UnknownName: with the nearest names, and what was left out of other packages.
        """
        self._fill()
        if self._on_demand and name not in self._entries:
            self._import(name)
            self._tell()
        if name not in self._entries:
            known = self._names()
            raise UnknownName(
                f"looking up the {self.noun} {name!r}",
                received=f"no {self.noun} of that name",
                todo="; ".join((nearest(name, known) if known else "there is none", *self._notes)),
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def items(self) -> list[tuple[str, T]]:
        """Names and entries, in order. Imports all modules of the entries, where those wait to be asked for."""
        return [(name, self.get(name)) for name in self._names()]

    @property
    def built_in(self) -> list[str]:
        """The names of skipgrad's own entries, in order."""
        names = self._names()
        return [name for name in names if name not in self._points]

    @property
    def refs(self) -> list[str]:
        """How the entries are referred to, for help texts: of one that waits to be asked for, what its module's first
        line says; of another package's, its name."""
        said = {head.name: head.ref for head in self._heads()}
        return [said.get(name, name) for name in self._names()]

    @property
    def about(self) -> dict[str, str]:
        """What the entries are, in a few words, where that is known without importing them."""
        self._fill()
        told = {head.name: head.about for head in self._heads()}
        return told | {name: f"of the package {package_of(point)}" for name, point in self._points.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of other packages, and why; a sentence each."""
        self._names()
        return tuple(self._notes)

    def _heads(self) -> tuple[Head, ...]:
        return heads(self._home) if self._on_demand else ()

    def _names(self) -> list[str]:
        self._fill()
        inside = [name for name in self._entries if name not in self._points]
        if self._on_demand:
            inside = list(dict.fromkeys([*(head.name for head in self._heads()), *inside]))
        elif self._home:
            inside.sort(key=lambda name: (self._ranks.get(name, 0), name))
        return [*inside, *(name for name in self._points if self._on_demand or name in self._entries)]

    def _fill(self) -> None:
        """Imports what registers itself; once. Whoever asks meanwhile, from a module that is being imported, gets what
        there is."""
        if self._filled:
            return
        with self._lock:
            if self._filled or self._filling:
                return
            self._filling = True
            try:
                if not self._on_demand:
                    for module in modules(self._home) if self._home else ():
                        importlib.import_module(module)
                self._points = self._chosen()
                for name, point in list(self._points.items()):
                    if not self._on_demand:
                        self._load(name, point)
                self._filled = True
            finally:
                self._filling = False
        if not self._on_demand:
            self._tell()

    def _import(self, name: str) -> None:
        """Imports the one module, or loads the one entry point, that brings this entry."""
        for head in self._heads():
            if head.name == name:
                importlib.import_module(head.module)
                assert name in self._entries, f"{head.module} registers no {self.noun} {name!r}"
                return
        point = self._points.get(name)
        if point is not None:
            self._load(name, point)

    def _chosen(self) -> dict[str, EntryPoint]:
        """The entry points that count: one for each name, and none with the name of a built-in entry."""
        taken = {head.name for head in self._heads()} | set(self._entries)
        chosen: dict[str, EntryPoint] = {}
        for point in points(self._group) if self._group else ():
            other = chosen.get(point.name)
            if point.name in taken or other is not None:
                owner = "skipgrad" if other is None else f"the package {package_of(other)}"
                self._leave_out(point, f"{owner} has one of that name")
            else:
                chosen[point.name] = point
        return chosen

    def _load(self, name: str, point: EntryPoint) -> None:
        """Loads an entry of another package. Whatever goes wrong in that package must not break skipgrad."""
        try:
            thing = point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is told, and skipgrad does without
            why = f"{point.value} raises {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        else:
            own = getattr(thing, self._key, name) if self._key else name
            if self._kind is not None and not isinstance(thing, self._kind):
                why = f"{point.value} is a {type(thing).__name__}, not a {self._kind.__name__}"
            elif own != name:
                why = f"its own {self._key} is {own!r}"
            else:
                self._entries[name] = thing
                return
        self._points.pop(name, None)
        self._leave_out(point, why)

    def _leave_out(self, point: EntryPoint, why: str) -> None:
        self._notes.append(f"the {self.noun} {point.name!r} of the package {package_of(point)} is left out: {why}")

    def _tell(self) -> None:
        """Warns of the entries left out since the last warning; not called where only names are wanted (help texts)."""
        while self._told < len(self._notes):
            self._told += 1
            warnings.warn(self._notes[self._told - 1], LeftOut, stacklevel=2)


def nearest(name: str, names: object, many: int = 4) -> str:
    """A sentence that offers the names closest to ``name`` (all of them when there are few)."""
    known = [str(n) for n in names]  # type: ignore[attr-defined]
    close = difflib.get_close_matches(name, known, n=many, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(close) + "?"
    if len(known) <= 12:
        return "known: " + ", ".join(known)
    return f"known: {', '.join(known[:8])} … ({len(known)} in all)"
