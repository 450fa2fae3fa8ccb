"""Shows applications of ``torch.autograd.Function`` to whoever follows the forward that this thread runs.

Their insides may be hidden from torch (NumPy, kernels), and run without a graph. There is one ``apply`` for all classes
and threads, so that ours looks up who asked in the thread that calls it, and passes every other call on.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch


class Sees(Protocol):
    """Who is shown the applications."""

    def function(self, cls: type, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Runs an application, ``run(*args, **kwargs)``, and returns its result."""
        ...


class _Here(threading.local):
    """Who follows the forward of this thread, outermost first."""

    def __init__(self) -> None:
        self.who: list[Sees] = []


_here = _Here()
_lock = threading.Lock()
_shown: list[Any] = []  # what ``apply`` was before the first block; empty outside of all blocks
_blocks = 0


@contextlib.contextmanager
def shown_to(who: Sees) -> Iterator[None]:
    """Inside the block, the applications that this thread makes are shown."""
    global _blocks
    with _lock:
        if not _blocks:
            before = torch.autograd.Function.__dict__["apply"]
            _shown.append(before)
            torch.autograd.Function.apply = classmethod(functools.partial(_apply, before))  # type: ignore[assignment]
        _blocks += 1
    _here.who.append(who)
    try:
        yield
    finally:
        _here.who.remove(who)
        with _lock:
            _blocks -= 1
            if not _blocks:
                torch.autograd.Function.apply = _shown.pop()


def _apply(before: Any, cls: Any, *args: Any, **kwargs: Any) -> Any:
    # Torch may keep a reference to this function; with nobody there, it does nothing.
    run = before.__get__(None, cls)
    for who in _here.who:
        run = functools.partial(_through, who, cls, run)
    return run(*args, **kwargs)


def _through(who: Sees, cls: type, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return who.function(cls, run, args, kwargs)
