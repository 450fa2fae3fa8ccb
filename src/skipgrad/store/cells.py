"""How values become cells and JSON texts of a run file, and back.

SQLite has no NaN: it stores one as NULL, which could then not be told from a figure that is missing. A NaN is
therefore written as the text ``nan`` (SQLite's columns take any type); infinities are floats to SQLite as well.
"""

from __future__ import annotations

import json
import math
from typing import Any

NAN = "nan"


def cell(value: Any) -> Any:
    """A value as SQLite stores it."""
    if isinstance(value, str):
        # A path from the command line may hold bytes that are no text; they are spelt out.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if value is None:
        return value
    if isinstance(value, (bool, int)):
        return int(value)
    value = float(value)  # numpy's scalars too
    return NAN if math.isnan(value) else value


def figure(value: Any) -> Any:
    """A float from its cell; None where it is missing."""
    return math.nan if value == NAN else value


def dumps(value: Any) -> str:
    """JSON text; NaN and infinities as Python's `json` spells them, other objects as plain values or text."""
    return json.dumps(value, default=_plain)


def loads(text: str) -> Any:
    """The value of a JSON text."""
    return json.loads(text)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return str(value)
