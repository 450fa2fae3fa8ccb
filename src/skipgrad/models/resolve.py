"""From a reference to a model to its source."""

from __future__ import annotations

from typing import Any

from skipgrad.core import BadInput, UnknownName
from skipgrad.models.libraries import local
from skipgrad.models.libraries.registry import LIBRARIES
from skipgrad.models.nets import look_up
from skipgrad.models.source import ModelSource


def resolve_model(ref: str, args: dict[str, Any] | None = None) -> ModelSource:
    """Resolves a reference to a model; nothing is built and nothing downloaded.

    Args:
        ref: a name behind the prefix of a library of `LIBRARIES` (``torchvision:resnet50``, ``skipgrad:plain56``),
            ``package.module:callable`` or ``file.py:callable``.
        args: arguments of its constructor.

    Raises:
        BadInput: a reference of another form.
        UnknownName: a name that its library, module or file does not have; with the nearest names.
        MissingExtra: the library is not installed.
        ModelError: importing the user's own code raised.
    """
    args = dict(args or {})
    prefix, colon, name = ref.partition(":")
    if not (colon and prefix and name):
        raise BadInput(
            f"resolving the model {ref!r}",
            received="a reference that is not of the form LIBRARY:NAME, package.module:callable or file.py:callable",
            todo=_hint(ref.strip(":")),
        )
    if prefix in LIBRARIES:
        return LIBRARIES.get(prefix).resolve(ref, name, args)
    return local.resolve(ref, args, tuple(LIBRARIES))


def _hint(word: str) -> str:
    """What a reference without a prefix, or without a name, may have been meant to be."""
    if word in LIBRARIES or not word:
        return "write for example skipgrad:plain56 or torchvision:resnet50"
    try:
        look_up(word)
    except UnknownName:
        return f"name the library it is from, for example torchvision:{word} or timm:{word}"
    return f"write skipgrad:{word} for the built-in one, or name its library: torchvision:{word}"
