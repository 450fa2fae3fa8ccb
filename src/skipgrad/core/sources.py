"""The share of the gradient by source layer and merge: a matrix summed up from `SourceRow`s. Plain data, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from skipgrad.core.draw.matrix import matrix_html, matrix_svg
from skipgrad.core.draw.words import clean, many
from skipgrad.core.errors import BadInput
from skipgrad.core.run import SourceRow

# What of a source row is meant, and how it is said.
PARTS = {
    "branch": ("branch_norm", "of the gradient that comes back through the branch (B)"),
    "skip": ("skip_norm", "of the gradient that comes through the shortcut (S)"),
    "total": ("total_norm", "of the whole gradient (S+B)"),
}
_MOST = 24  # rows and columns of the table in text
_DOING = "summing up the sources of concatenations"


@dataclass(frozen=True)
class SourceShares:
    """Which source layers the gradient goes to at each merge: share of the squared norm, mean over the backwards.

    Attributes:
        of: ``"branch"``, ``"skip"`` or ``"total"``.
        sources: rows: names of source layers, as they come first.
        merges: columns: names of skips, in order of execution.
        shares: per source and merge; None where the merge does not join it. Each column adds up to 1.
        even: what each would have if the gradient were spread evenly over the joined width; None where widths are not
            known.
        backwards: how many were averaged.
        left_out: rows that were zero as a whole or not finite, and have no shares.
    """

    of: str
    sources: tuple[str, ...]
    merges: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    even: tuple[tuple[float | None, ...], ...]
    backwards: int
    left_out: int = 0

    def by_source(self) -> dict[str, float]:
        """Per source layer the mean of its shares over the merges that join it."""
        known = ([v for v in row if v is not None] for row in self.shares)
        return {name: sum(row) / len(row) if row else math.nan for name, row in zip(self.sources, known, strict=True)}

    def against_even(self) -> dict[str, float]:
        """Per source layer its shares, added up, over those it would have by its width: above 1 it gets more.

        NaN where widths are not known.
        """
        out = {}
        for name, row, even in zip(self.sources, self.shares, self.even, strict=True):
            expected = sum(e for e in even if e is not None)
            out[name] = sum(v for v in row if v is not None) / expected if expected else math.nan
        return out

    def sentence(self) -> str:
        """What the figures are of."""
        text = f"share {PARTS[self.of][1]} by source layer and merge, mean over {many(self.backwards, 'backward')}"
        return f"{text}; {many(self.left_out, 'row')} left out, zero or not finite" if self.left_out else text

    def __str__(self) -> str:
        shown = self.merges[:_MOST]
        wide = max((len(s) for s in self.sources[:_MOST]), default=0)
        lines = [self.sentence(), ""]
        lines += [f"  {chr(97 + k)}  {clean(name)}" for k, name in enumerate(shown)]
        lines += ["", " " * (wide + 2) + "".join(f"{chr(97 + k):>6}" for k in range(len(shown)))]
        for name, row in zip(self.sources[:_MOST], self.shares, strict=False):
            cells = "".join(f"{'':>6}" if v is None else f"{100 * v:5.1f}%" for v in row[:_MOST])
            lines.append(f"{clean(name):<{wide}}  {cells}".rstrip())
        more = [
            f"{rest} more {what}"
            for what, rest in (("source layers", len(self.sources) - _MOST), ("merges", len(self.merges) - _MOST))
            if rest > 0
        ]
        return "\n".join([*lines, *(["… " + ", ".join(more)] if more else [])])

    def svg(self) -> str:
        """A heat map as one SVG element; each cell says its figures under the pointer."""
        return matrix_svg(self.sources, self.merges, self.shares, title=self.sentence(), tips=self._tips())

    def _repr_html_(self) -> str:
        """What a notebook shows: the heat map, and folded below it the mean share of each source layer."""
        even = self.against_even()
        rows = [
            (name, f"{100 * share:.1f} %", "" if math.isnan(even[name]) else f"{even[name]:.2f}×")
            for name, share in self.by_source().items()
        ]
        return matrix_html(self.svg(), ("source layer", "mean share", "against an even spread"), rows)

    def _tips(self) -> list[list[str]]:
        return [
            [
                "" if v is None else f"{100 * v:.2f} %" + ("" if e is None else f", even spread {100 * e:.2f} %")
                for v, e in zip(row, even, strict=True)
            ]
            for row, even in zip(self.shares, self.even, strict=True)
        ]


def source_shares(rows: Iterable[SourceRow], of: str = "branch") -> SourceShares:
    """Sums up the rows of ``ledger.sources()``; each backward counts alike, however large its gradient.

    What comes back through the *branch* of a merge is the newest layer's own use of each source, whether the net
    concatenates a list anew before each layer or the last concatenation and the newest tensor. What comes through the
    *shortcut* is all later uses in the second form, and those of the next layer alone in the first.

    Args:
        rows: of one training; take the steps you mean.
        of: ``"branch"``, ``"skip"`` or ``"total"``.

    Raises:
        BadInput: another word, or no rows.
    """
    if of not in PARTS:
        raise BadInput(_DOING, received=f"of={of!r}", todo=f"pass one of {', '.join(PARTS)}")
    groups: dict[tuple[int, int, str], list[SourceRow]] = {}
    for row in rows:
        groups.setdefault((row.step, row.micro, row.skip), []).append(row)
    if not groups:
        raise BadInput(
            _DOING,
            received="no rows",
            todo="watch a net with concatenations of several tensors: sg.watch(model, sources=True)",
        )
    attribute = PARTS[of][0]
    merges = list(dict.fromkeys(skip for _, _, skip in groups))
    sources = list(dict.fromkeys(r.source for group in groups.values() for r in group))
    sums: dict[tuple[str, str], list[float]] = {}
    even: dict[tuple[str, str], float | None] = {}
    left_out = 0
    for (_, _, merge), group in groups.items():
        norms = [getattr(r, attribute) for r in group]
        whole = math.hypot(*norms)
        width = sum(r.width for r in group)
        if not all(r.finite for r in group) or not 0 < whole < math.inf:
            left_out += len(group)
            continue
        parts: dict[str, float] = {}
        widths: dict[str, int] = {}
        for row, norm in zip(group, norms, strict=True):  # one layer may have made two of the sources
            parts[row.source] = parts.get(row.source, 0.0) + (norm / whole) ** 2
            widths[row.source] = widths.get(row.source, 0) + row.width
        for name, part in parts.items():
            sums.setdefault((name, merge), []).append(part)
            even[name, merge] = widths[name] / width if width and all(r.width for r in group) else None
    return SourceShares(
        of=of,
        sources=tuple(sources),
        merges=tuple(merges),
        shares=tuple(tuple(_mean(sums.get((s, m))) for m in merges) for s in sources),
        even=tuple(tuple(even.get((s, m)) for m in merges) for s in sources),
        backwards=len({(step, micro) for step, micro, _ in groups}),
        left_out=left_out,
    )


def _mean(values: list[float] | None) -> float | None:
    return sum(values) / len(values) if values else None
