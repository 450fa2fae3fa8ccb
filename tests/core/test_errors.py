"""Errors: one root, and a message that says what, where, what came and what to do."""

from __future__ import annotations

import inspect

import pytest

from skipgrad.core import errors
from skipgrad.core.errors import BadInput, SkipgradError

ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


@pytest.mark.parametrize("error", ALL, ids=lambda c: c.__name__)
def test_one_root(error: type[Exception]) -> None:
    assert issubclass(error, SkipgradError)
    assert error.__doc__


def test_message_has_all_parts_in_order() -> None:
    error = BadInput("reading --input", where="the command line", received="'3,a'", todo="write whole numbers")
    assert str(error).splitlines() == [
        "reading --input",
        "  where:    the command line",
        "  received: '3,a'",
        "  to do:    write whole numbers",
    ]
    assert (error.doing, error.where, error.received, error.todo) == (
        "reading --input",
        "the command line",
        "'3,a'",
        "write whole numbers",
    )


def test_parts_that_are_missing_leave_no_line() -> None:
    assert str(BadInput("reading --input", todo="write whole numbers")) == (
        "reading --input\n  to do:    write whole numbers"
    )
