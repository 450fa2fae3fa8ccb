"""The long skip by addition."""

from __future__ import annotations

from functools import partial

from skipgrad.blocks.forms.long_concat import LongSkip, down_and_up
from skipgrad.blocks.forms.registry import FORMS, IMAGE, FormEntry, Seen

FORMS.register(
    "long-add",
    FormEntry(
        title="Long skip by addition",
        build=LongSkip,
        example=lambda: partial(LongSkip, merge="add")(down_and_up()),
        shape=IMAGE,
        formula="y = x + inner(x)",
        paper='Chaurasia and Culurciello, "LinkNet", 2017 (arXiv 1707.03718)',
        shapes="(N, C, …) → the same; inner keeps it",
        start="x + inner(x)",
        initially=lambda m, x: x + m.inner(x),  # type: ignore[operator]
        finds=(Seen("add", "identity", 1, long=True),),
        when="Encoder–decoders that must stay narrow: half the channels of `long-concat` behind each merge.",
        cost="one add, and the memory of x until then",
        outside="monai SkipConnection (mode add)",
    ),
)
