"""``torchvision:resnet50``: torchvision's registered models, with fresh weights."""

from __future__ import annotations

import inspect
from typing import Any

from skipgrad.core import BadInput, UnknownName, nearest
from skipgrad.models.libraries._extra import optional
from skipgrad.models.libraries.registry import LIBRARIES, Library
from skipgrad.models.source import Inputs, ModelSource, Role, image, refuse_weights, signature_of

_FLOW = "it takes two images and returns a list of flows, for which there is no built-in data"


def resolve(ref: str, name: str, args: dict[str, Any]) -> ModelSource:
    """A model of torchvision's registry.

    Raises:
        UnknownName: no such model; with the nearest names.
        BadInput: an argument asks for pretrained weights.
    """
    tv = optional("torchvision", ref)
    names = tv.models.list_models()
    if name not in names:
        raise UnknownName(
            f"resolving the model {ref!r}", received=f"torchvision has no model {name!r}", todo=nearest(name, names)
        )
    refuse_weights(ref, args, ("weights", "weights_backbone", "pretrained", "pretrained_backbone"))
    builder = tv.models.get_model_builder(name)
    parameters = inspect.signature(builder).parameters
    fixed: dict[str, Any] = {"weights": None} if "weights" in parameters else {}
    if "weights_backbone" in parameters:
        fixed["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        fixed["init_weights"] = True  # what they do anyway, after a warning
    kind = _kind(tv, name)
    roles: dict[Role, str] = {} if kind == "flow" else {"classes": "num_classes"}
    if name.startswith("vit_"):
        roles["size"] = "image_size"
    untrainable = {"flow": _FLOW, "video": "it takes videos; the built-in data are images"}

    def construct(**given: Any) -> Any:
        return builder(**{**fixed, **given})

    return ModelSource(
        ref=ref,
        args=args,
        construct=construct,
        inputs=_inputs,
        modality="image" if kind in ("classification", "segmentation") else "other",
        roles=roles,
        defaults={"channels": 3, "size": 224},
        signature=signature_of(builder),
        untrainable=untrainable.get(kind, ""),
        user_args=frozenset(args),
        kind=kind,
        extra=name,
        least=32 if name.startswith("swin") else 1,  # merges patches by slicing, not by a layer with a stride
    )


def _kind(tv: Any, name: str) -> str:
    for kind, module in (
        ("detection", tv.models.detection),
        ("segmentation", tv.models.segmentation),
        ("video", tv.models.video),
        ("flow", tv.models.optical_flow),
    ):
        if name in tv.models.list_models(module=module):
            return kind
    return "classification"


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    if source.kind == "detection":
        if shape is not None and len(shape) == 4:
            if shape[0] != 1:
                raise BadInput(
                    f"making an example input for {source.ref!r}",
                    received=f"the shape {shape}",
                    todo="give one image: detection models take a list of images, here of one",
                )
            shape = shape[1:]
        return ([image(shape or (3, 224, 224), device)],), {}
    if source.kind == "flow":
        pair = shape or (1, 3, 128, 128)
        return (image(pair, device), image(pair, device)), {}
    if source.kind == "video":
        size = 224 if source.extra.startswith(("mvit", "swin3d")) else 112
        return (image(shape or (1, 3, 16, size, size), device),), {}
    # Inception was made for 299 pixels; googlenet's side heads, too, shrink their maps further than others do.
    size = 299 if source.extra == "inception_v3" else source.args.get("image_size", 224)
    return (image(shape or (1, 3, size, size), device),), {}


LIBRARIES.register("torchvision", Library(resolve, "torchvision:resnet50", extra="models", package="torchvision"))
