"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from skipgrad.core.units import number, percent, ratio, seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (0.000012345, "1.23e-05"),
        (1e-19, "1.00e-19"),
        (0.12345, "0.123"),
        (-0.12345, "-0.123"),
        (12.345, "12.3"),
        (123.45, "123"),
        (1234.5, "1,234"),
        (3.2e7, "3.20e+07"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (1.237, "1.24×"), (0.9, "0.9×"), (math.inf, "inf×")])
def test_ratio(value: float | None, text: str) -> None:
    assert ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (math.nan, "NaN"), (0.125, "12.5 %"), (1.0, "100 %"), (0, "0 %")]
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.25, "250 ms"), (3.21, "3.2 s"), (89.94, "89.9 s"), (125.0, "2 min 05 s"), (3600.0, "60 min 00 s")],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text
