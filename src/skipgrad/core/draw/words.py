"""A graph in words: one sentence for all of it, one line for a skip, names without what could do harm."""

from __future__ import annotations

import re
from collections import Counter
from html import escape
from typing import Any

from skipgrad.core.skips import Skip, Skips

MERGES = {"add": "add", "concat": "concat", "gate": "gate", "index": "index merge"}
ROOT = "the model itself"  # its own forward has no path

# Control characters steer terminals and are illegal in XML, as are lone surrogates and the two non-characters; marks of
# direction make a name read as another.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def clean(text: Any) -> str:
    """A text from outside without what would steer a terminal, break XML or turn the direction of writing."""
    return _HARMFUL.sub("�", str(text))


def xml(text: Any) -> str:
    """A text from outside as it may stand in SVG or HTML, in an attribute too."""
    return escape(clean(text), quote=True)


def many(count: int, noun: str) -> str:
    """``"1 skip"``, ``"2 skips"``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def sentence(graph: Skips) -> str:
    """The graph in one sentence: ``"8 skip connections: 5 identity adds, 3 projection adds; longest span 2"``."""
    if not graph.skips:
        return f"no skip connections among {many(len(graph.layers), 'weighted layer')}"
    sorts = Counter((s.shortcut, s.kind) for s in graph.skips)
    parts = [many(n, f"{shortcut} {MERGES[kind]}") for (shortcut, kind), n in sorts.most_common()]
    text = f"{many(len(graph.skips), 'skip connection')}: {', '.join(parts)}"
    long = graph.count(long=True)
    if long:
        text += f"; {long} long"
    return f"{text}; longest span {max(s.span for s in graph.skips)}"


def about(skip: Skip) -> str:
    """What a skip is, in a line without its name."""
    text = (
        f"{'long ' if skip.long else ''}{skip.kind}, {skip.shortcut} shortcut over {many(skip.span, 'weighted layer')}"
    )
    return f"{text}, joins {skip.fan_in} tensors" if skip.fan_in > 2 else text
