"""The shallow sibling of a deep net: the same reference at another depth."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from skipgrad.core.errors import BadInput
from skipgrad.models import ModelSource

# Names under which constructors take their depth, the commonest first.
DEPTHS = ("depth", "num_layers", "n_layer", "n_layers", "num_hidden_layers", "num_blocks", "n_blocks", "layers")
DOING = "building the shallow sibling"


def sibling(source: ModelSource, args: Mapping[str, Any], depth: int) -> tuple[str, dict[str, Any], int]:
    """Reference and arguments of the same net at another depth, and the depth of the net itself.

    A built-in net has its depth in its name (``skipgrad:preln12``); others are asked for an argument such as ``depth``,
    ``num_layers`` or ``n_layer``, given by ``--model-arg`` or in the constructor's signature.

    Raises:
        BadInput: it has no such argument, or is not deeper than the sibling.
    """
    ref = source.ref
    built_in = re.fullmatch(r"(skipgrad:[a-z_]+?)(\d+)", ref)
    if built_in is not None:
        own, ref, args = int(built_in[2]), f"{built_in[1]}{depth}", dict(args)
    else:
        name = next((n for n in DEPTHS if n in args), None) or _in_signature(source)
        if name is None:
            raise BadInput(
                DOING,
                where=ref,
                received="a model without an argument for its depth",
                todo=f"give the model one of {', '.join(DEPTHS)}, and its value with --model-arg",
            )
        own = args[name] if name in args else _default(source, name)
        args = {**args, name: depth}
    if isinstance(own, bool) or not isinstance(own, int) or own <= depth:
        raise BadInput(
            DOING,
            where=ref,
            received=f"depth {own} of the net, {depth} of its sibling",
            todo="give --tune-at-depth a depth below the net's own",
        )
    return ref, dict(args), own


def _parameters(source: ModelSource) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(source.construct).parameters
    except (TypeError, ValueError):
        return {}


def _in_signature(source: ModelSource) -> str | None:
    known = _parameters(source)
    return next((n for n in DEPTHS if n in known and isinstance(known[n].default, int)), None)


def _default(source: ModelSource, name: str) -> Any:
    return _parameters(source)[name].default
