"""Which steps of a trial a run file keeps: all while they are few, then ever fewer, and always evenly spaced ones.

Ten thousand skips over a hundred thousand steps are 10⁹ rows; no file or report can hold them. The n-th measured step
of a trial (its *place*, from 0) is kept when it is a multiple of the stride at its place: 1 for the first ``dense``
places, 2 up to twice as many, 4 up to four times, and so on. Nothing that was kept is ever removed to make room, a file
grows with the logarithm of the steps, and whatever the number of steps, the multiples of the last stride are all there:
between half of ``dense`` and ``dense`` steps, evenly spaced over the whole trial, which is what is read.
"""

from __future__ import annotations

# Rows (of skips and layers together) that reading one trial gives at most: about 250 MB of records, read in two seconds
# and diagnosed in some more.
MOST_ROWS = 2**19
# A median over the steps needs steps, however wide the net: between half of this and this are read.
FEWEST_DENSE = 16


def dense(rows_a_step: int) -> int:
    """How many steps of a trial are kept without a gap: a power of two."""
    wanted = max(FEWEST_DENSE, MOST_ROWS // max(1, rows_a_step))
    return 1 << (wanted.bit_length() - 1)


def stride(place: int, dense: int) -> int:
    """Distance of the places that are kept around this one."""
    return 1 << (place // dense).bit_length()


def is_kept(place: int, dense: int) -> bool:
    """Whether the schedule keeps the step at this place."""
    return place % stride(place, dense) == 0
