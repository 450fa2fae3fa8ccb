"""``diffusers:UNet2DModel``: the model classes of diffusers, with fresh weights."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from skipgrad.core import BadInput, UnknownName, nearest
from skipgrad.models.libraries._extra import optional
from skipgrad.models.libraries.registry import LIBRARIES, Library
from skipgrad.models.source import Inputs, ModelSource, ids, image, roles_of, signature_of

_UNTRAINABLE = (
    "a diffusion model learns to remove noise it is told the time of; give --data denoise:digits (or denoise: before "
    "other images) to one that takes a sample and a time alone, as UNet2DModel does, to others your own: --data "
    "file.py:callable returning samples of a dict of their inputs and a target"
)


def resolve(ref: str, name: str, args: dict[str, Any]) -> ModelSource:
    """A model of diffusers by class name.

    Raises:
        UnknownName: no such class; with the nearest names.
    """
    diffusers = optional("diffusers", ref)
    known = [n for n in dir(diffusers) if n.endswith(("Model", "VAE")) or n.startswith("Autoencoder")]
    cls = getattr(diffusers, name, None) if name in known else None
    if not (isinstance(cls, type) and issubclass(cls, torch.nn.Module)):
        raise UnknownName(
            f"resolving the model {ref!r}", received=f"diffusers has no model class {name!r}", todo=nearest(name, known)
        )
    roles, defaults = roles_of(cls, "channels", "classes")
    needs = [n for n, p in inspect.signature(cls.forward).parameters.items() if p.default is p.empty and n != "self"]
    timed = needs == ["sample", "timestep"]
    return ModelSource(
        ref=ref,
        args=args,
        construct=cls,
        inputs=_inputs,
        modality="other",
        roles=roles,
        defaults=defaults,
        signature=signature_of(cls),
        untrainable=_UNTRAINABLE,
        user_args=frozenset(args),
        kind=name,
        extra=cls,
        keywords={"image": "sample", "level": "timestep"} if timed else {},
    )


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    """Inputs for the forward's required parameters, by the names diffusers gives them."""
    config = {
        name: parameter.default
        for name, parameter in inspect.signature(source.extra).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    } | dict(source.args)
    shape = shape or _shape(source, config)
    kwargs: dict[str, Any] = {}
    for name, parameter in inspect.signature(source.extra.forward).parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if name == "self" or not (required or (name == "class_labels" and config.get("num_embeds_ada_norm"))):
            if name == "timestep" and "DiT" in source.kind:
                kwargs[name] = ids(shape[:1], device)
            continue
        if name in ("sample", "hidden_states", "x"):
            kwargs[name] = image(shape, device)
        elif name in ("timestep", "timesteps", "class_labels"):
            kwargs[name] = ids(shape[:1], device)
        elif name == "encoder_hidden_states":
            kwargs[name] = image((shape[0], 77, config.get("cross_attention_dim") or 768), device)
        else:
            raise BadInput(
                f"making an example input for {source.ref!r}",
                received=f"its forward needs {name!r}, which skipgrad has no example of",
                todo="wrap it in your own callable (file.py:callable) whose forward takes one tensor",
            )
    return (), kwargs


def _shape(source: ModelSource, config: dict[str, Any]) -> tuple[int, ...]:
    size = config.get("sample_size") or 32
    channels = config.get("in_channels", 3)
    if "1D" in source.kind:
        return (1, channels, size if isinstance(size, int) else size[0])
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    if "3D" in source.kind:
        return (1, channels, 4, height, width)
    return (1, channels, height, width)


LIBRARIES.register("diffusers", Library(resolve, "diffusers:UNet2DModel", extra="models", package="diffusers"))
