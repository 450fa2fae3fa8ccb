"""From slots to records: the sources of concatenations of several, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from skipgrad.core import SkipRow, SourceRow
from skipgrad.ledger import statistics as t
from skipgrad.ledger.arrivals import Rows
from skipgrad.ledger.plan import TapPlan
from skipgrad.ledger.rows import size_of
from skipgrad.ledger.source_gather import SOURCE_SEEN

WIDER = "its sources one by one: the concatenated dimension has another size than in the trace"


def read_sources(
    plan: TapPlan, rows: Rows, skips: Sequence[SkipRow], *, scale: float = 1.0
) -> tuple[list[SourceRow], dict[str, str]]:
    """The rows of the sources of skips that have a row of their own; and skip → why its sources have none.

    Args:
        plan: the slots were made for.
        rows: what arrived.
        skips: the skip rows of the same backward.
        scale: what the loss was multiplied by; divided out.
    """
    by_name = {s.name: s.sources for s in plan.skips}
    out: list[SourceRow] = []
    missing: dict[str, str] = {}
    for skip in skips:
        sources = by_name[skip.skip]
        found = [rows.gathers[s.gather] if s.gather >= 0 else rows.sources[~s.gather][s.row] for s in sources]
        if any(s.gather < 0 and row[SOURCE_SEEN] != 1 for s, row in zip(sources, found, strict=True)):
            missing[skip.skip] = WIDER
            continue
        sizes = [[size_of(row[k], row[k + 1], scale) for k in (t.S_MAX, t.B_MAX, t.T_MAX)] for row in found]
        whole = math.hypot(*(total for _, _, (total, _) in sizes))
        for number, (source, row, ((s, fine_s), (b, fine_b), (total, fine_t))) in enumerate(
            zip(sources, found, sizes, strict=True)
        ):
            dot = row[t.DOT] * (row[t.S_MAX] / scale) * (row[t.B_MAX] / scale)
            out.append(
                SourceRow(
                    step=skip.step,
                    micro=skip.micro,
                    skip=skip.skip,
                    source=source.leaf.name,
                    number=number,
                    width=source.leaf.width,
                    skip_norm=s,
                    branch_norm=b,
                    total_norm=total,
                    cosine=dot / (s * b) if s > 0 and b > 0 else 0.0,
                    share=(total / whole) ** 2 if 0 < whole < math.inf else math.nan,
                    finite=fine_s and fine_b and fine_t,
                )
            )
    return out, missing
