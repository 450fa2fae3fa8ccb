"""``timm:vit_tiny_patch16_224``: timm's registered models, with fresh weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from skipgrad.core import UnknownName, nearest
from skipgrad.models.libraries._extra import optional
from skipgrad.models.libraries.registry import LIBRARIES, Library
from skipgrad.models.source import Inputs, ModelSource, Role, image, refuse_weights


def resolve(ref: str, name: str, args: dict[str, Any]) -> ModelSource:
    """A model of timm's registry; a pretraining tag (``resnet50.a1_in1k``) is allowed, its weights are not loaded.

    Raises:
        UnknownName: no such model; with the nearest names.
        BadInput: an argument asks for pretrained weights.
    """
    timm = optional("timm", ref)
    if not timm.is_model(name):
        names = timm.list_models()
        raise UnknownName(
            f"resolving the model {ref!r}",
            received=f"timm has no model {name!r}",
            todo=nearest(name.split(".")[0], names),
        )
    refuse_weights(ref, args, ("pretrained", "checkpoint_path"))
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    channels, size, _ = cfg.input_size if cfg is not None else (3, 224, 224)
    roles: dict[Role, str] = {"channels": "in_chans", "classes": "num_classes"}
    if cfg is not None and cfg.fixed_input_size:
        roles["size"] = "img_size"
    return ModelSource(
        ref=ref,
        args=args,
        construct=partial(timm.create_model, name, pretrained=False),
        inputs=_inputs,
        modality="image",
        roles=roles,
        defaults={"channels": channels, "size": size, "classes": getattr(cfg, "num_classes", 1000)},
        signature=f"timm.create_model({name!r}, num_classes=…, in_chans=…, …)",
        user_args=frozenset(args),
        kind="classification",
        extra=name,
    )


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    size = source.args.get("img_size", source.defaults["size"])
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return (image(shape or (1, source.role("channels"), height, width), device),), {}


LIBRARIES.register("timm", Library(resolve, "timm:vit_tiny_patch16_224", extra="models", package="timm"))
