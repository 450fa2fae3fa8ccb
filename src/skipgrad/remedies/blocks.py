"""Which blocks of a net can be left out: y = x in place of y = x + F(x), and nothing else of the net changes."""

from __future__ import annotations

from collections import defaultdict

from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.remedies.retrofit.design import short_add

_AGAIN = {"relu", "relu_"}  # change nothing of what has been through one already
_NORMS = {"layer_norm", "rms_norm", "group_norm", "instance_norm"}  # change little of it


def by_owner(graph: SkipGraph) -> dict[str, list[Skip]]:
    """The skips of each module that makes their adds, in order of execution."""
    blocks: dict[str, list[Skip]] = defaultdict(list)
    for skip in graph.skips:
        blocks[skip.owner].append(skip)
    return blocks


def not_a_block(skip: Skip) -> str | None:
    """Why the module that makes a skip's add is no block that adds to x; None when it is one."""
    if not skip.owner:
        return "its add is in the model's own forward: there is no block to leave out"
    if skip.shortcut != "identity":
        return f"its shortcut is no identity but {skip.shortcut}"
    return short_add(skip)


def what_follows(skip: Skip, graph: SkipGraph, norms: bool = False) -> str | None:
    """Why y may be something else than x where F(x) = 0, by what comes between this add and the next fork.

    Args:
        skip: the add.
        graph: its graph.
        norms: a norm may follow, where one is behind the add before, too: y is x nearly.
    """
    after = _after(skip, graph)
    if after is None:
        return "it is the last of its run: what comes behind its add is not known"
    behind = set(after.trunk)
    if not behind or (behind <= _AGAIN and _AGAIN & set(skip.trunk)) or (norms and is_normed(skip, graph)):
        return None
    return f"{', '.join(after.trunk)} comes behind its add"


def is_normed(skip: Skip, graph: SkipGraph) -> bool:
    """Whether a norm is behind a skip's add, and was behind the add before it, too."""
    after = _after(skip, graph)
    return after is not None and bool(after.trunk) and set(after.trunk) <= _NORMS & set(skip.trunk)


def _after(skip: Skip, graph: SkipGraph) -> Skip | None:
    return next((s for s in graph.skips if s.previous == skip.name), None)
