"""Which layers belong together: runs of one stage, or of one module, in order of execution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from skipgrad.core.skips import Layer

# A stage is split into its parts where it holds more than this share of the layers and has no more parts than that.
LARGE, PARTS = 1 / 3, 12


@dataclass(frozen=True)
class Group:
    """Layers ``start`` to ``end`` (left out) that share a name."""

    name: str
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


def runs(layers: Sequence[Layer], key: Callable[[Layer], str], start: int = 0) -> list[Group]:
    """Runs of layers with the same key; a key may come back, as a new run."""
    out: list[Group] = []
    for name, members in groupby(layers, key=key):
        end = start + len(list(members))
        out.append(Group(name, start, end))
        start = end
    return out


def stages(layers: Sequence[Layer]) -> list[Group]:
    """The stages, a large one split into its parts where these are few (``backbone`` into ``layer1`` …)."""
    out: list[Group] = []
    todo = runs(layers, lambda layer: layer.stage)[::-1]
    while todo:
        group = todo.pop()
        parts = runs(layers[group.start : group.end], _prefix(group.name), group.start)
        # Numbered parts (``h.0``, ``h.1`` …) need no names of their own: `blocks` numbers them.
        named = not all(_parts(p.name)[-1].isdigit() for p in parts)
        if named and len(group) > LARGE * len(layers) and 2 <= len(parts) <= PARTS:
            todo += parts[::-1]
        else:
            out.append(group)
    return out


def blocks(layers: Sequence[Layer], stage: Group) -> list[Group]:
    """The numbered blocks of a stage (``layers.0``, ``layers.1`` …), named by their number; empty when it has none."""
    depth = len(stage.name.split("."))
    parts = runs(layers[stage.start : stage.end], _prefix(stage.name), stage.start)
    out = [Group(_parts(p.name)[depth : depth + 1][0], p.start, p.end) for p in parts if len(_parts(p.name)) > depth]
    return out if len(out) > 1 and len(out) == len(parts) and all(p.name.isdigit() for p in out) else []


def fold(layers: Sequence[Layer], most: int) -> list[Group]:
    """The finest groups by module path of which there are at most ``most``; neighbouring stages in one if need be."""
    deepest = max((len(_parts(layer.name)) for layer in layers), default=1)
    for depth in range(deepest, 0, -1):
        found = runs(layers, lambda layer, d=depth: ".".join(_parts(layer.name)[:d]))
        if len(found) <= most:
            return found
    found = runs(layers, lambda layer: layer.stage)
    size = -(-len(found) // most)
    chunks = [found[i : i + size] for i in range(0, len(found), size)]
    return [Group(c[0].name if len(c) == 1 else f"{c[0].name} … {c[-1].name}", c[0].start, c[-1].end) for c in chunks]


def _parts(path: str) -> list[str]:
    return path.split("#")[0].split(".")


def _prefix(stage: str) -> Callable[[Layer], str]:
    depth = len(stage.split(".")) + 1
    return lambda layer: ".".join(_parts(layer.name)[:depth])
