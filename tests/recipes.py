"""Options of a check, with those of its recipe among them, as they are typed on the command line."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from skipgrad.check import CheckOptions
from skipgrad.core import Recipe

RECIPE = {f.name for f in fields(Recipe)}


def options(model: str, data: str, **given: Any) -> CheckOptions:
    """A recipe of the given fields that are its own, and options of the rest."""
    recipe = Recipe(**{k: v for k, v in given.items() if k in RECIPE and v is not None})
    return CheckOptions(model, data, recipe=recipe, **{k: v for k, v in given.items() if k not in RECIPE})
