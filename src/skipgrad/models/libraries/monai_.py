"""``monai:UNet``: the classes of monai.networks.nets, in two dimensions unless told otherwise."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from torch import nn

from skipgrad.core import UnknownName, nearest
from skipgrad.models.libraries._extra import optional
from skipgrad.models.libraries.registry import LIBRARIES, Library
from skipgrad.models.source import Inputs, ModelSource, image, refuse_weights, roles_of, signature_of

# MONAI's nets have no defaults for these; without them not one could be named on a command line.
_REQUIRED: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "num_classes": 2,
    "img_size": 64,
    "channels": (16, 32, 64, 128),
    "strides": (2, 2, 2),
    "kernel_size": (3, 3, 3, 3),
    "upsample_kernel_size": (2, 2, 2),
}
_REQUIRED_OF: dict[str, dict[str, Any]] = {
    "DynUNet": {"strides": (1, 2, 2, 2)},
    "ViT": {"patch_size": 16, "classification": True},
}


def resolve(ref: str, name: str, args: dict[str, Any]) -> ModelSource:
    """A net by class name.

    Raises:
        UnknownName: no such class; with the nearest names.
        BadInput: an argument asks for pretrained weights.
    """
    nets = optional("monai.networks.nets", ref)
    known = [n for n, c in vars(nets).items() if isinstance(c, type) and issubclass(c, nn.Module)]
    if name not in known:
        raise UnknownName(
            f"resolving the model {ref!r}", received=f"monai.networks.nets has no {name!r}", todo=nearest(name, known)
        )
    refuse_weights(ref, args, ("pretrained",))
    cls = getattr(nets, name)
    parameters = inspect.signature(cls).parameters
    fixed = {
        key: value
        for key, value in {**_REQUIRED, **_REQUIRED_OF.get(name, {})}.items()
        if key in parameters
        and (
            parameters[key].default is inspect.Parameter.empty
            or key == "spatial_dims"  # three in some nets, two in others
            or key in _REQUIRED_OF.get(name, {})
        )
    }
    roles, defaults = roles_of(cls, "channels", "classes", "size")
    for role, key in roles.items():
        if key in fixed:
            defaults[role] = fixed[key]
    return ModelSource(
        ref=ref,
        args=args,
        construct=partial(cls, **fixed),
        inputs=_inputs,
        modality="image",
        roles=roles,
        defaults=defaults,
        signature=signature_of(cls),
        user_args=frozenset(args),
        kind="net",
        extra=fixed,
    )


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    size = source.role("size") or 64
    dims = source.args.get("spatial_dims", source.extra.get("spatial_dims", 2))
    sizes = (size,) * dims if isinstance(size, int) else tuple(size)
    return (image(shape or (1, source.role("channels") or 1, *sizes), device),), {}


LIBRARIES.register("monai", Library(resolve, "monai:UNet", extra="models", package="monai"))
