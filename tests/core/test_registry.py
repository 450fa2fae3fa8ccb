"""Registry: names to things, and the nearest right names for a wrong one."""

from __future__ import annotations

import pytest

from skipgrad.core.errors import SkipgradError, UnknownName
from skipgrad.core.registry import Registry, nearest


@pytest.fixture
def remedies() -> Registry[int]:
    registry: Registry[int] = Registry("remedy")
    for value, name in enumerate(("zero-init", "add-skips", "skip-calibration")):
        registry.register(name, value)
    return registry


def test_keeps_the_order_of_registration(remedies: Registry[int]) -> None:
    assert list(remedies) == ["zero-init", "add-skips", "skip-calibration"]
    assert remedies.items() == [("zero-init", 0), ("add-skips", 1), ("skip-calibration", 2)]
    assert len(remedies) == 3


def test_gets_what_was_registered(remedies: Registry[int]) -> None:
    assert remedies.get("add-skips") == 1
    assert "add-skips" in remedies
    assert "add-skip" not in remedies


def test_decorator_registers_and_returns_the_thing() -> None:
    registry: Registry[object] = Registry("check")

    @registry.add("SG001")
    class Check:
        pass

    assert registry.get("SG001") is Check


def test_wrong_name_offers_the_nearest(remedies: Registry[int]) -> None:
    with pytest.raises(UnknownName) as caught:
        remedies.get("add-skip")
    assert str(caught.value).splitlines() == [
        "looking up the remedy 'add-skip'",
        "  received: no remedy of that name",
        "  to do:    did you mean add-skips?",
    ]
    assert isinstance(caught.value, SkipgradError)


def test_a_name_is_given_once(remedies: Registry[int]) -> None:
    with pytest.raises(AssertionError, match="'zero-init' is registered twice"):
        remedies.register("zero-init", 9)


def test_nothing_near_lists_all_when_few() -> None:
    assert nearest("xyzzy", ["alpha", "beta"]) == "known: alpha, beta"


def test_nothing_near_counts_when_many() -> None:
    text = nearest("xyzzy", [f"name{i}" for i in range(20)])
    assert text == "known: name0, name1, name2, name3, name4, name5, name6, name7 … (20 in all)"


def test_nearest_first() -> None:
    assert nearest("resnet18", ["vgg16", "resnet101", "resnet18d"]).startswith("did you mean resnet18d")
