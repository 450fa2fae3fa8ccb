"""From a reference to a model to its source."""

from __future__ import annotations

from typing import Any

from skipgrad.core import BadInput, UnknownName
from skipgrad.models.libraries import (
    builtin,
    diffusers_,
    local,
    monai_,
    smp_,
    timm_,
    torchvision_,
    transformers_,
)
from skipgrad.models.nets import look_up
from skipgrad.models.source import ModelSource

LIBRARIES = {
    "skipgrad": builtin.resolve,
    "torchvision": torchvision_.resolve,
    "timm": timm_.resolve,
    "transformers": transformers_.resolve,
    "diffusers": diffusers_.resolve,
    "smp": smp_.resolve,
    "monai": monai_.resolve,
}


def resolve_model(ref: str, args: dict[str, Any] | None = None) -> ModelSource:
    """Resolves a reference to a model; nothing is built and nothing downloaded.

    Args:
        ref: ``torchvision:resnet50``, ``timm:…``, ``transformers:gpt2``, ``diffusers:…``, ``smp:Unet``, ``monai:UNet``,
            ``skipgrad:plain56``, ``package.module:callable`` or ``file.py:callable``.
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
        return LIBRARIES[prefix](ref, name, args)
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
