"""The recipes that come with skipgrad, one TOML file each, and those of the user."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from skipgrad.core.errors import UnknownName
from skipgrad.core.registry import nearest
from skipgrad.core.training import TrainingRecipe, read_toml

RECIPES = "skipgrad.train.recipes"


def recipe_names() -> list[str]:
    """The names of skipgrad's own, in order."""
    return sorted(p.name[:-5] for p in resources.files(RECIPES).iterdir() if p.name.endswith(".toml"))


def named_recipe(name: str | None) -> TrainingRecipe:
    """The recipe of that name, or in that TOML file; the defaults when there is none.

    Raises:
        UnknownName: no recipe of that name; with the nearest.
        BadInput: a file that is no TOML, an entry that no recipe has, or a value out of range.
    """
    if name is None:
        return TrainingRecipe()
    return TrainingRecipe().with_values(_entries(name))


def _entries(name: str) -> dict[str, Any]:
    if name.endswith(".toml") or "/" in name:
        return read_toml(Path(name))
    names = recipe_names()
    if name not in names:
        raise UnknownName(
            f"looking up the recipe {name!r}",
            received="no recipe of that name",
            todo=f"{nearest(name, names)} Or give a file: ./{name}.toml",
        )
    with resources.as_file(resources.files(RECIPES) / f"{name}.toml") as path:
        return read_toml(path)
