"""The top of the package: light, and every name it promises is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import skipgrad

HEAVY = ("torch", "numpy", "polars", "rich", "altair", "jinja2", "sqlite3", "cyclopts")


def modules_after(code: str) -> set[str]:
    """Names in sys.modules of a fresh interpreter that ran `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = modules_after("import skipgrad")
    assert "skipgrad" in loaded
    assert not loaded.intersection(HEAVY)


def test_help_is_registered_without_torch() -> None:
    loaded = modules_after("from skipgrad.cli._app import make_app; make_app()")
    assert not loaded.intersection({"torch", "numpy", "polars", "altair", "jinja2"})


@pytest.mark.parametrize("room", ["core.graph", "core.run", "diagnosis", "store", "report"])
def test_rooms_that_open_a_run_need_no_torch(room: str) -> None:
    assert "torch" not in modules_after(f"import skipgrad.{room}")


def test_at_most_fifteen_names_at_the_top() -> None:
    assert len(skipgrad.__all__) <= 15
    assert list(skipgrad.__all__) == sorted(set(skipgrad.__all__))


PIECES = ("EMA", "Accumulate", "DropRates", "ElasticNet", "checkpointed", "clip_adaptively")


@pytest.mark.parametrize("name", [*skipgrad.__all__, *PIECES])
def test_every_name_at_the_top_resolves(name: str) -> None:
    assert getattr(skipgrad, name) is not None
    assert name in dir(skipgrad)


@pytest.mark.parametrize("name", ["find", "watch", "diagnose", "remedy", "read_run"])
def test_verbs_stay_functions_when_rooms_are_imported(name: str) -> None:
    import skipgrad.diagnosis
    import skipgrad.finder
    import skipgrad.ledger
    import skipgrad.remedies
    import skipgrad.store

    verb = getattr(skipgrad, name)
    assert callable(verb)
    assert not isinstance(verb, type(skipgrad)), f"skipgrad.{name} became a module"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fnd'"):
        _ = skipgrad.fnd
