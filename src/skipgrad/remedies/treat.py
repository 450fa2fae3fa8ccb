"""A remedy by name, planned and applied in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.plan import Applied
from skipgrad.remedies.registry import remedy


def treat(
    name: str,
    model: nn.Module,
    graph: SkipGraph,
    *,
    measured: Any = None,
    measure: Callable[[nn.Module], Any] | None = None,
) -> Applied:
    """`Remedy.treat` of the remedy called ``name``.

    Raises:
        UnknownName: no such remedy.
    """
    return remedy(name).treat(model, graph, measured=measured, measure=measure)
