"""Which rows a ledger keeps in memory: all rows of a short run, and those of chosen steps of a long one.

The steps are chosen as for a run file (`skipgrad.store.schedule`): ten thousand skips over a hundred thousand steps are
10⁹ rows, which no memory holds. Whoever needs every row takes them as they come, from a `Feed`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from skipgrad.core import LayerRow, LossPoint, SkipRow, SourceRow, Thinned
from skipgrad.store import schedule
from skipgrad.store.pack import KINDS, LAYERS, SKIPS, Kind, first_bad


class News(NamedTuple):
    """What was measured since somebody last took it."""

    skips: list[SkipRow]
    layers: list[LayerRow]
    losses: list[LossPoint]


class Feed:
    """Collects every new row until it is taken, whichever rows the ledger keeps; made by `Ledger.feed`.

    Rows that are never taken stay in memory, so take them often, or drop the feed.
    """

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before
        self.waiting = News([], [], [])

    def take(self) -> News:
        """The rows and losses since the last call, also those of a step that is not over yet."""
        self._before()
        taken, self.waiting = self.waiting, News([], [], [])
        return taken


class Kept:
    """The rows and losses of a watch, and who is to be given the new ones.

    Attributes:
        losses: all of them.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.losses: list[LossPoint] = []
        self._note = note
        self._steps: list[_Step] = []
        self._measured = 0  # steps of which there was a row
        self._dense = 0
        self._every = 1
        self._bad: set[str] = set()  # kinds of which there was a step that was not finite
        self._news = News([], [], [])
        self._feeds: weakref.WeakSet[Feed] = weakref.WeakSet()

    def add_skips(self, rows: Sequence[SkipRow]) -> None:
        """Rows of one step, that of the rows before or a later one."""
        self._add(SKIPS, rows)
        for news in self._readers():
            news.skips.extend(rows)

    def add_layers(self, rows: Sequence[LayerRow]) -> None:
        """The same for layers."""
        self._add(LAYERS, rows)
        for news in self._readers():
            news.layers.extend(rows)

    def add_sources(self, rows: Sequence[SourceRow]) -> None:
        """Rows of sources, of the step whose skip rows came last."""
        if rows:
            self._steps[-1].sources.extend(rows)

    def add_loss(self, point: LossPoint) -> None:
        """A loss of any step."""
        self.losses.append(point)
        for news in self._readers():
            news.losses.append(point)

    def take(self) -> News:
        """What is new to the run file and the listeners."""
        taken, self._news = self._news, News([], [], [])
        return taken

    def feed(self, before: Callable[[], None]) -> Feed:
        """A feed of what comes from now on; `before` is called when it is taken from."""
        feed = Feed(before)
        self._feeds.add(feed)
        return feed

    @property
    def skips(self) -> list[SkipRow]:
        """The skip rows kept, in order."""
        return [row for step in self._steps for row in step.rows[SKIPS.name]]

    @property
    def layers(self) -> list[LayerRow]:
        """The layer rows kept, in order."""
        return [row for step in self._steps for row in step.rows[LAYERS.name]]

    @property
    def sources(self) -> list[SourceRow]:
        """The rows of sources kept, in order."""
        return [row for step in self._steps for row in step.sources]

    @property
    def counts(self) -> tuple[int, int]:
        """How many skip and layer rows are kept."""
        return sum(len(s.rows[SKIPS.name]) for s in self._steps), sum(len(s.rows[LAYERS.name]) for s in self._steps)

    @property
    def thinned(self) -> Thinned | None:
        """Which steps are kept; None when all are."""
        return Thinned(self._measured, self._every, self._dense) if self._every > 1 else None

    def _readers(self) -> list[News]:
        return [self._news, *(feed.waiting for feed in self._feeds)]

    def _add(self, kind: Kind, rows: Sequence[Any]) -> None:
        if not rows:
            return
        if not self._steps or rows[0].step != self._steps[-1].step:
            self._begin(rows[0].step)
        self._steps[-1].rows[kind.name].extend(rows)

    def _begin(self, step: int) -> None:
        """Begins a step. The one before is over then, and is let go of unless the schedule keeps it."""
        place = self._measured
        self._measured += 1
        if place == 1:  # as a run file counts: the rows of the first step
            first = self._steps[0]
            self._dense = schedule.dense(sum(map(len, first.rows.values())) + len(first.sources))
        every = schedule.stride(place, self._dense) if place else 1
        if self._every == 1 < every:
            self._note(
                f"more than {self._dense:,} steps were measured: of a run of this length the rows of every 2nd, 4th, "
                "8th … step are kept, with the first, the last and what was not finite"
            )
        if every > self._every:
            self._every = every
            self._steps = [s for s in self._steps if self._stays(s)]
        elif every > 1 and not self._stays(self._steps[-1]):
            self._steps.pop()
        self._steps.append(_Step(step, place))

    def _stays(self, step: _Step) -> bool:
        """Drops the rows of a step that need not be kept; whether any are left."""
        self._judge(step)  # in the order of the steps, so that the first bad one is known before its rows are dropped
        if step.place % self._every:
            step.thin()
        return any(step.rows.values())

    def _judge(self, step: _Step) -> None:
        if step.judged:
            return
        step.judged = True
        for name, rows in step.rows.items():
            bad = first_bad(KINDS[name], rows)
            if bad is None:
                continue
            step.witnesses[name] = rows if name not in self._bad else [rows[bad]]
            self._bad.add(name)


@dataclass
class _Step:
    """The rows of one step.

    Attributes:
        step: its number.
        place: its number among the steps measured.
        rows: by kind.
        witnesses: by kind, rows that stay when the others go: all of the first step that was not finite, so that it
            can be looked into, and one of each later such step, so that they can be counted.
        sources: rows of sources.
        judged: whether the witnesses are known.
    """

    step: int
    place: int
    rows: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in KINDS})
    witnesses: dict[str, list[Any]] = field(default_factory=dict)
    sources: list[SourceRow] = field(default_factory=list)
    judged: bool = False

    def thin(self) -> None:
        """Drops all rows but the witnesses."""
        self.rows = {name: self.witnesses.get(name, []) for name in self.rows}
        self.sources = []
