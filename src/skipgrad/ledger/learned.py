"""What the hooks on autograd's nodes have learned of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Learned:
    """What the first forwards taught: (site, argument) → the way from the result's node to the edge to x.

    The way is numbers of edges; None where no single edge carries all that this use sends back.
    """

    ways: dict[tuple[int, int], tuple[int, ...] | None] = field(default_factory=dict)
    allowed: bool = True
