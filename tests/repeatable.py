"""Whether a training gives the same bits twice: with something around it, and by itself.

Some nets do not repeat on some processors (MobileNet-V2's first training in a process differs from its second, with
nothing watching it, where convolutions are computed by other vector units). What such a net shows says nothing of us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor


def same_bits(net: str, run: Callable[[bool], Any]) -> None:
    """Asserts that a watched run gives what a plain one gives, to the bit.

    Runs it plain (thrown away: a process's first run may differ), plain, watched and plain. Where the two plain ones
    differ, the test is skipped by name: the net is not repeatable on this machine.

    Args:
        net: its name, for the reason of the skip.
        run: called with whether to watch; starts anew each time from the same seed, and returns tensors and numbers, in
            lists and dicts if need be.
    """
    run(False)
    plain, watched, again = kept(run(False)), kept(run(True)), kept(run(False))
    if apart := differing(plain, again):
        pytest.skip(not_repeatable(net, apart))
    changed = differing(plain, watched)
    assert not changed, f"{net}: watched, {len(changed)} places differ: {changed[:5]}"


def not_repeatable(net: str, apart: list[str]) -> str:
    """The reason of a skip."""
    places = f"two plain runs differ in {len(apart)} places, first {apart[0]}"
    return f"this net is not repeatable here: {net} ({places})"


def kept(value: Any) -> list[tuple[str, Any]]:
    """Every tensor (a copy) and number of a nested value, with its place."""
    return [(place, v.detach().clone() if isinstance(v, Tensor) else v) for place, v in _leaves(value, "")]


def differing(a: list[tuple[str, Any]], b: list[tuple[str, Any]]) -> list[str]:
    """Places that differ, of two values that `kept` has laid out."""
    assert [place for place, _ in a] == [place for place, _ in b], "other places"
    return [place for (place, x), (_, y) in zip(a, b, strict=True) if not _same(x, y)]


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}[{key}]")
    elif isinstance(value, list | tuple):
        for k, inner in enumerate(value):
            yield from _leaves(inner, f"{place}[{k}]")
    else:
        yield place, value


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return x.dtype == y.dtype and torch.equal(x, y)
    return type(x) is type(y) and x == y
