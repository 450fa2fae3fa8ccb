"""``smp:Unet``: segmentation_models_pytorch's architectures, with fresh weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from skipgrad.core import UnknownName, nearest
from skipgrad.models.libraries._extra import optional
from skipgrad.models.libraries.registry import LIBRARIES, Library
from skipgrad.models.source import Inputs, ModelSource, image, refuse_weights, roles_of, signature_of


def resolve(ref: str, name: str, args: dict[str, Any]) -> ModelSource:
    """An architecture by class name; the encoder is resnet18 unless ``encoder_name`` says otherwise.

    Raises:
        UnknownName: no such architecture; with the nearest names.
        BadInput: an argument asks for pretrained weights.
    """
    smp = optional("segmentation_models_pytorch", ref)
    known = {cls.__name__: cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if name not in known:
        raise UnknownName(
            f"resolving the model {ref!r}",
            received=f"segmentation_models_pytorch has no architecture {name!r}",
            todo=nearest(name, known),
        )
    refuse_weights(ref, args, ("encoder_weights",))
    cls = known[name]
    roles, defaults = roles_of(cls, "channels", "classes")
    fixed: dict[str, Any] = {"encoder_weights": None}
    if "encoder_name" not in args and name not in ("Segformer", "DPT"):
        fixed["encoder_name"] = "resnet18"
    rest = {key: value for key, value in args.items() if key != "encoder_weights"}
    return ModelSource(
        ref=ref,
        args=rest,
        construct=partial(cls, **fixed),
        inputs=_inputs,
        modality="image",
        roles=roles,
        defaults={"size": 224, **defaults},
        signature=signature_of(cls),
        user_args=frozenset(rest),
        kind="segmentation",
        extra=name,
    )


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    return (image(shape or (1, source.role("channels") or 3, 224, 224), device),), {}


LIBRARIES.register("smp", Library(resolve, "smp:Unet", extra="models", package="segmentation-models-pytorch"))
