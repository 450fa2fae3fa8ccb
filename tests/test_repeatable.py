"""The helper of the bitwise tests can fail, and skips by name."""

from __future__ import annotations

import pytest
import torch

from repeatable import differing, kept, same_bits


def test_a_watch_that_changes_a_bit_is_caught() -> None:
    one = torch.ones(3)
    same_bits("net", lambda watched: {"a": [one, 1.0, None]})
    with pytest.raises(AssertionError, match=r"\[a\]\[0\]"):
        same_bits("net", lambda watched: {"a": [one * (1 + 1e-7 * watched), 1.0]})
    with pytest.raises(AssertionError, match="other places"):
        same_bits("net", lambda watched: [one] * (1 + watched))


def test_a_first_run_that_differs_is_thrown_away() -> None:
    runs = iter([5.0, 1.0, 1.0, 1.0])
    same_bits("net", lambda watched: next(runs))


def test_a_net_that_does_not_repeat_is_skipped_by_name() -> None:
    runs = iter([1.0, 2.0, 2.0, 3.0])
    with pytest.raises(pytest.skip.Exception, match="this net is not repeatable here: net "):
        same_bits("net", lambda watched: next(runs))


def test_what_is_kept_is_a_copy() -> None:
    weight = torch.ones(2)
    before = kept([weight])
    weight.add_(1)
    assert differing(before, kept([weight])) == ["[0]"]
    assert differing(kept([torch.ones(1)]), kept([torch.ones(1, dtype=torch.float64)])) == ["[0]"]
