"""``skipgrad:plain56``: the built-in nets."""

from __future__ import annotations

from functools import partial
from typing import Any

from skipgrad.models.libraries.registry import LIBRARIES, Library
from skipgrad.models.nets import look_up
from skipgrad.models.source import Inputs, ModelSource, ids, image, roles_of, signature_of

_NATURAL_SIZE = {"digits": 8, "shapes": 32}
_KINDS = {"shapes": "segmentation", "detection": "detection"}


def resolve(ref: str, name: str, args: dict[str, Any]) -> ModelSource:
    """A built-in net.

    Raises:
        UnknownName: no such family, or no such depth.
    """
    family, depth = look_up(name)
    construct = family.make if depth is None else partial(family.make, depth)
    roles, defaults = roles_of(construct)
    return ModelSource(
        ref=ref,
        args=args,
        construct=construct,
        inputs=_inputs,
        modality=family.modality,
        roles=roles,
        defaults=defaults,
        signature=signature_of(family.make),
        user_args=frozenset(args),
        kind=_KINDS.get(family.data, family.modality),
        extra=family,
    )


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    if source.modality == "text":
        return (ids(shape or (1, min(16, source.role("context"))), device, source.role("vocabulary")),), {}
    if source.kind == "detection":
        return ([image((shape or (1, 3, 64, 64))[-3:], device)],), {}
    size = source.role("size") or source.extra.size or _NATURAL_SIZE[source.extra.data]
    return (image(shape or (1, source.role("channels"), size, size), device),), {}


LIBRARIES.register("skipgrad", Library(resolve, "skipgrad:plain56"))
