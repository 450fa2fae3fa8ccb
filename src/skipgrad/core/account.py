"""What a watch saw, what it measured of that, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What measuring cost.

    Attributes:
        share: of the time of the steps since the first: seconds spent measuring over seconds in all; None before there
            were steps of both kinds to compare.
        seconds: spent measuring, by what measured steps took beyond the median of the plain ones around them.
        measured: steps that were measured.
        seen: steps.
    """

    share: float | None = None
    seconds: float = 0.0
    measured: int = 0
    seen: int = 0


@dataclass(frozen=True)
class Account:
    """Every forward of the watched model, by what became of it.

    `forwards` is the sum of `measured`, `left_out` and the counts in `unmeasured`.

    Attributes:
        forwards: calls of the model with gradients on.
        measured: those whose skips were measured.
        left_out: those of steps that were not to be measured (``every=``, ``budget=``).
        unmeasured: why a forward could not be measured → how many.
        backwards: backwards that brought figures to a measured forward.
        without: measured forwards that no backward came to.
        ran: skip → in how many of the measured forwards it ran; of a skip of the graph that never ran, 0.
        rows: skip → how many rows it has.
        layers: weighted layer → ``"reached"`` by a gradient at least once, ``"frozen"`` (its weights ask for none),
            ``"not run"`` in any measured forward, or ``"not reached"``: it ran, and no gradient ever came.
        cost: what measuring cost.
    """

    forwards: int = 0
    measured: int = 0
    left_out: int = 0
    unmeasured: Mapping[str, int] = field(default_factory=dict)
    backwards: int = 0
    without: int = 0
    ran: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    @property
    def adds_up(self) -> bool:
        """Whether each forward is counted once, and no skip has rows without having run."""
        whole = self.forwards == self.measured + self.left_out + sum(self.unmeasured.values())
        return whole and all(self.ran.get(s, 0) > 0 for s, n in self.rows.items() if n)

    def after(self, before: Account) -> Account:
        """The account of a watch that went on where an earlier one was broken off."""
        one, two = before.cost, self.cost
        parts = [(c.share, c.seconds) for c in (one, two) if c.share]
        whole = sum(seconds / share for share, seconds in parts)
        seconds = one.seconds + two.seconds
        layers = {**self.layers, **{k: v for k, v in before.layers.items() if v == "reached" or k not in self.layers}}
        return Account(
            forwards=before.forwards + self.forwards,
            measured=before.measured + self.measured,
            left_out=before.left_out + self.left_out,
            unmeasured=_added(before.unmeasured, self.unmeasured),
            backwards=before.backwards + self.backwards,
            without=before.without + self.without,
            ran=_added(before.ran, self.ran),
            rows=_added(before.rows, self.rows),
            layers=layers,
            cost=Cost(seconds / whole if whole else None, seconds, one.measured + two.measured, one.seen + two.seen),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Account:
        """What `to_dict` made."""
        return cls(**{**record, "cost": Cost(**record["cost"])})

    def lines(self) -> list[str]:
        """The account in sentences, for a terminal and a page."""
        cost = self.cost
        share = "" if cost.share is None else f", {100 * cost.share:.1f} % of the time"
        out = [f"{cost.measured:,} of {cost.seen:,} steps measured{share}"]
        parts = [f"{self.measured:,} measured"]
        if self.left_out:
            parts.append(f"{self.left_out:,} left out to save time")
        parts += [f"{n:,} not measured: {reason}" for reason, n in self.unmeasured.items()]
        if self.without:
            parts.append(f"{self.without:,} of the measured without a backward")
        out.append(f"{self.forwards:,} forwards: {', '.join(parts)}")
        some = {s: n for s, n in self.ran.items() if 0 < n < self.measured}
        never = [s for s, n in self.ran.items() if not n]
        if some:
            shown = ", ".join(f"{s} in {n:,}" for s, n in list(some.items())[:6])
            more = f" and {len(some) - 6} more" if len(some) > 6 else ""
            out.append(f"skips that ran in a part of the {self.measured:,} forwards: {shown}{more}")
        if never and self.measured:
            shown = ", ".join(never[:6]) + (f" and {len(never) - 6} more" if len(never) > 6 else "")
            out.append(f"skips of the graph that never ran: {shown}")
        return out


def _added(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + two.get(key, 0) for key in {**one, **two}}
