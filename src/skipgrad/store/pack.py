"""Packs the rows of one step and kind into one block of a run file: arrays, and not a record for every skip or layer.

What stays the same from step to step (names, micro, depth, weights, dtype) is a *subject*. Each subject is written once
into a file, and blocks refer to it by number. The training waits while a step is written, and record by record that
took ten times as long.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any

from skipgrad.core import LayerRow, SkipRow


@dataclass(frozen=True)
class Kind:
    """How rows of one record type are laid out.

    Attributes:
        name: the kind's name in the file.
        record: the record type.
        subject: the fields that make a subject.
        figures: the fields that are figures, in the order of a block's columns.
        judged: the figures that make a row bad when they are infinite or NaN; the check SG010 looks at the same ones.
        make: makes the records from the step, the subjects, the columns of figures, and the column of ``finite``.
    """

    name: str
    record: type[Any]
    subject: tuple[str, ...]
    figures: tuple[str, ...]
    judged: tuple[str, ...]
    make: Callable[..., Iterable[Any]]


def _skips(step: int, subjects: Sequence[Any], figures: Sequence[Sequence[Any]], finite: Iterable[bool]) -> Any:
    return map(SkipRow, repeat(step), (s[0] for s in subjects), (s[1] for s in subjects), *figures, finite)


def _layers(step: int, subjects: Sequence[Any], figures: Sequence[Sequence[Any]], finite: Iterable[bool]) -> Any:
    names, depths = (s[0] for s in subjects), (s[1] for s in subjects)
    rest = (s[2] for s in subjects), (s[3] for s in subjects)
    return map(LayerRow, repeat(step), names, depths, *figures, *rest, finite)


_SKIP_FIGURES = ("skip_norm", "branch_norm", "total_norm", "out_norm", "cosine", "gain", "x_rms", "branch_rms")
_LAYER_FIGURES = ("out_grad_norm", "weight_norm", "weight_grad_norm", "update_norm")
SKIPS = Kind(
    "skips",
    SkipRow,
    ("micro", "skip"),
    (*_SKIP_FIGURES, "residual"),
    tuple(f for f in _SKIP_FIGURES if f not in ("cosine", "gain")),
    _skips,
)
LAYERS = Kind(
    "layers",
    LayerRow,
    ("layer", "depth", "weights", "dtype"),
    (*_LAYER_FIGURES, "stalled", "zero_grad"),
    _LAYER_FIGURES,
    _layers,
)
KINDS = {kind.name: kind for kind in (SKIPS, LAYERS)}


@dataclass(frozen=True)
class Block:
    """The cells of one block.

    Attributes:
        who: the number of each row's subject, as uint32.
        figures: one column after another, as float64.
        missing: a byte for each figure, 1 where it was not measured; None when all were measured.
        finite: a byte for each row.
    """

    who: bytes
    figures: bytes
    missing: bytes | None
    finite: bytes


def pack(kind: Kind, rows: Sequence[Any], numbers: Callable[[list[Any]], list[int]]) -> tuple[Block, int | None]:
    """Packs the rows of one step into a block.

    Args:
        kind: the kind of the rows.
        rows: the rows of one step; at least one.
        numbers: from subjects to their numbers.

    Returns:
        The block, and the index of the first bad row; None when no row is bad.
    """
    who = array("I", numbers(list(map(attrgetter(*kind.subject), rows))))
    finite = bytes(map(bool, map(attrgetter("finite"), rows)))
    bad = finite.find(0) if 0 in finite else len(rows)
    figures, missing, gaps = array("d"), bytearray(), False
    for name in kind.figures:
        try:
            values, gone = array("d", map(attrgetter(name), rows)), bytes(len(rows))
        except TypeError:  # a None among them; looking for one first would take as long as the packing itself
            column = [getattr(r, name) for r in rows]
            values, gone = array("d", [0.0 if v is None else v for v in column]), bytes(v is None for v in column)
            gaps = True
        if name in kind.judged:
            bad = min(bad, _not_finite(values))
        figures += values
        missing += gone
    return Block(_little(who), _little(figures), bytes(missing) if gaps else None, finite), _place(bad, rows)


def first_bad(kind: Kind, rows: Sequence[Any]) -> int | None:
    """The index of the first bad row, as `pack` returns it; None when no row is bad."""
    bad = next((i for i, r in enumerate(rows) if not r.finite), len(rows))
    for name in kind.judged:
        values = [0.0 if v is None else v for v in map(attrgetter(name), rows)]
        bad = min(bad, _not_finite(values))
    return _place(bad, rows)


def _not_finite(values: Sequence[float]) -> int:
    """The index of the first infinity or NaN; the number of values when there is none."""
    # Where the sum is finite, all values are, and summing is the quickest look. Where it is not, it may only have
    # overflowed, so that each value is looked at.
    if math.isfinite(sum(values)):
        return len(values)
    return next((i for i, v in enumerate(values) if not math.isfinite(v)), len(values))


def _place(bad: int, rows: Sequence[Any]) -> int | None:
    return bad if bad < len(rows) else None


def unpack(kind: Kind, step: int, block: Block, subjects: dict[int, tuple[Any, ...]]) -> list[Any]:
    """The rows of a block.

    Raises:
        ValueError: sizes that do not fit.
        KeyError: a subject that is not there.
    """
    n, k = len(block.finite), len(kind.figures)
    if len(block.who) != 4 * n or len(block.figures) != 8 * n * k or len(block.missing or bytes(n * k)) != n * k:
        raise ValueError(f"a block of {n} {kind.name} at step {step} whose parts have other sizes")
    values = _values("d", block.figures).tolist()
    if block.missing:
        values = [None if gone else v for v, gone in zip(values, block.missing, strict=True)]
    columns = [values[i * n : (i + 1) * n] for i in range(k)]
    who = [subjects[number] for number in _values("I", block.who)]
    return list(kind.make(step, who, columns, map(bool, block.finite)))


def _little(values: array[Any]) -> bytes:
    """The bytes of an array in little-endian order, so that a run file can be read on any machine."""
    if sys.byteorder == "big":
        values = array(values.typecode, values)
        values.byteswap()
    return values.tobytes()


def _values(code: str, data: bytes) -> array[Any]:
    values: array[Any] = array(code)
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
