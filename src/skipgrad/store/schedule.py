"""Which steps of a trial a run file keeps: all while they are few, later ever fewer, and always evenly spaced ones.

Ten thousand skips over a hundred thousand steps are 10⁹ rows; no file or report can hold them. The *place* of a step is
its number among the measured steps of its trial, from 0. A step is kept when its place is a multiple of the stride,
which is 1 for the first ``dense`` places, 2 up to twice as many, 4 up to four times as many, and so on.

So nothing that was kept ever has to be removed to make room, and a file grows only with the logarithm of the steps. And
however many steps there are, all multiples of the last stride are in the file: between half of ``dense`` and ``dense``
steps, evenly spaced over the whole trial. These are the steps that a reader is given.
"""

from __future__ import annotations

# Reading one trial gives at most so many rows, of skips and layers together: about 250 MB of records, which are read in
# two seconds and diagnosed in some more.
MOST_ROWS = 2**19
# A median over the steps needs some steps, however wide the net is: between half of this number and all of it are read.
FEWEST_DENSE = 16


def dense(rows_a_step: int) -> int:
    """How many steps of a trial are kept without a gap: a power of two."""
    wanted = max(FEWEST_DENSE, MOST_ROWS // max(1, rows_a_step))
    return 1 << (wanted.bit_length() - 1)


def stride(place: int, dense: int) -> int:
    """The distance between the places that are kept, at this place."""
    return 1 << (place // dense).bit_length()


def is_kept(place: int, dense: int) -> bool:
    """Whether the schedule keeps the step at this place."""
    return place % stride(place, dense) == 0
