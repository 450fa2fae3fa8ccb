"""How much a step of the optimizer changed what the branches do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ChangeRow:
    """What one step changed of the branches, at the inputs they had in it.

    Attributes:
        step: of the optimizer.
        change: D = Σᵢ ‖Fᵢ(xᵢ; W + ΔW) − Fᵢ(xᵢ; W)‖ / ‖xᵢ‖ over the branches that could be measured.
        rate: the optimizer's in that step (of its first group).
        skips: how many branches that is.
        most: the skip with the largest part of it.
        most_change: that part.
    """

    step: int
    change: float
    rate: float
    skips: int
    most: str = ""
    most_change: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
