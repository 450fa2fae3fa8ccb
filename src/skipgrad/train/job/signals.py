"""Whoever wants a training to stop: Ctrl-C, and a cluster that takes the machine back (SIGTERM)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Wish:
    """Whether somebody wants it to stop.

    Attributes:
        name: of the signal; empty while nobody does.
    """

    name = ""


@contextmanager
def wishes() -> Iterator[Wish]:
    """Inside, SIGTERM and Ctrl-C are wishes that are met after the step; a second Ctrl-C stops at once.

    In another thread than the main one signals cannot be had, and nobody ever wishes anything.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def noted(number: int, frame: Any) -> None:
        if wish.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        wish.name = signal.Signals(number).name

    before = {number: signal.signal(number, noted) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
