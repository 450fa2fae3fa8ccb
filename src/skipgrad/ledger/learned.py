"""What the hooks on autograd's nodes have learned of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Learned:
    """What earlier forwards of a plan have found out about its calls.

    Attributes:
        ways: (key of the site, tensor argument) → the way from the node of the call's result to the edge to x: at each
            node the number of the edge to follow. None where no single edge carries all that this use sends back.
        allowed: whether edges may be used at all. No longer after a backward that can itself be differentiated, as the
            second differentiation sends gradients to x that pass no edge of the uses.
    """

    ways: dict[tuple[int, int], tuple[int, ...] | None] = field(default_factory=dict)
    allowed: bool = True
