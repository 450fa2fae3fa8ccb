"""What several verbs accept, and how it is read."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import Recipe
from skipgrad.models import DATA

OWN = ("package.module:callable", "file.py:callable")  # a model, or data, of the user's


def flag(text: str) -> Parameter:
    """An option without a value, off unless given, with no ``--no-…`` of its own."""
    return Parameter(negative="", show_default=False, help=text)


ModelRef = Annotated[str, Parameter(help="the model: LIBRARY:NAME, package.module:callable or file.py:callable")]
DataRef = Annotated[str, Parameter(help=", ".join((*DATA.refs, *OWN)))]
ModelArgs = Annotated[
    list[str] | None,
    Parameter(
        name="--model-arg",
        negative="",
        help="an argument of the model's constructor, as k=v (a Python literal, else text); repeatable",
    ),
]
Threads = Annotated[
    str, Parameter(help="auto: 1 or all this process may use, whichever steps are faster with; or a number")
]
# The fields of a recipe, each an option; its docstring is their help.
Training = Annotated[Recipe, Parameter(name="*", negative="")]
Try = Annotated[list[str] | None, Parameter(name="--try", negative="", help="try this remedy; repeatable")]
InputShape = Annotated[str | None, Parameter(name="--input", help="shape of the example input, e.g. 1,3,224,224")]
Json = Annotated[bool, flag("print one JSON object on stdout and nothing else")]


def model_args(pairs: Sequence[str] | None, option: str = "--model-arg") -> dict[str, Any]:
    """``["depth=20", "norm=group"]`` as ``{"depth": 20, "norm": "group"}``.

    Raises:
        BadInput: a word without ``=``, a name that is none, or a name given twice.
    """
    args: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise BadInput(
                f"reading {option}",
                received=repr(pair),
                todo=f"write NAME=VALUE, e.g. {option} num_classes=10",
            )
        if key in args:
            raise BadInput(
                f"reading {option}", received=f"{key!r} twice: {args[key]!r} and {text!r}", todo="give it once"
            )
        try:
            args[key] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            args[key] = text
    return args


def input_shape(text: str | None) -> tuple[int, ...] | None:
    """``"1,3,224,224"`` as a tuple of ints; None stays None.

    Raises:
        BadInput: anything else than whole numbers above zero with commas between.
    """
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").strip("()[] ").rstrip(",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1 or max(shape) > 2**31:
        raise BadInput(
            "reading --input",
            received=repr(text),
            todo="write whole numbers above zero with commas between, batch first, e.g. --input 1,3,224,224",
        )
    return shape
