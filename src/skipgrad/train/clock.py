"""A clock that can be paused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds since it was made, less what was spent inside `paused`.

    Args:
        seconds: what it begins with.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._start = time.perf_counter() - seconds

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still inside."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - before
