"""What a reference to a model resolves to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from skipgrad.core import BadInput, ModelError, SkipgradError
from skipgrad.instrument.faults import shorten

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Modality = Literal["image", "text", "other", "unknown"]
Role = Literal["channels", "classes", "size", "vocabulary", "context"]

# Names under which constructors take what a fit may have to set, the commonest first.
ROLE_NAMES: dict[Role, tuple[str, ...]] = {
    "channels": ("in_channels", "in_chans", "num_channels", "input_channels", "n_channels"),
    "classes": ("num_classes", "classes", "n_classes", "num_labels", "out_channels"),
    "size": ("image_size", "img_size"),
    "vocabulary": ("vocab_size", "vocab", "num_tokens", "n_vocab"),
    "context": ("context", "n_positions", "max_position_embeddings", "block_size", "max_seq_len", "seq_len"),
}


@dataclass(frozen=True)
class ModelSource:
    """A model that can be built, and what is known about it without building it.

    Attributes:
        ref: the reference it was resolved from.
        args: the arguments of its constructor.
        construct: the constructor; returns a new module with weights from torch's global generator.
        inputs: makes default example inputs from ``(source, input_shape, device)``.
        modality: what it takes, as far as known.
        roles: names of the constructor arguments for channels, classes, size, vocabulary and context,
            where it has such arguments.
        signature: the constructor's signature, for messages.
        defaults: values the constructor uses for the roles when they are not given, where known.
        untrainable: why `fit` cannot train it; empty when it can.
        user_args: names of the arguments the user gave; a fit never changes those.
        kind: the library's word for what it is (``"segmentation"``, ``"gpt2"`` …), for fits and messages.
        extra: whatever its library needs to remember.
        least: smallest side of an image that makes sense, where the layers' strides do not show it.
        as_segmentation: the same model with a head for masks, where its library has one and this is another.
        keywords: under which names the forward takes images (``"image"``) and token ids (``"text"``), what is not
            named there being its first positional argument; and a noise level (``"level"``), if it takes one.
        for_vocabulary: what else has to be set for a vocabulary of this size, ``(source, size)`` → arguments.
    """

    ref: str
    args: Mapping[str, Any]
    construct: Callable[..., Any]
    inputs: Callable[[ModelSource, tuple[int, ...] | None, str], Inputs]
    modality: Modality = "unknown"
    roles: Mapping[Role, str] = field(default_factory=dict)
    signature: str = ""
    defaults: Mapping[Role, Any] = field(default_factory=dict)
    untrainable: str = ""
    user_args: frozenset[str] = frozenset()
    kind: str = ""
    extra: Any = None
    least: int = 1
    as_segmentation: Callable[[], ModelSource] | None = None
    keywords: Mapping[Literal["image", "text", "level"], str] = field(default_factory=dict)
    for_vocabulary: Callable[[ModelSource, int], dict[str, Any]] | None = None

    def build(self) -> nn.Module:
        """A new module, weights drawn from torch's global generator; under ``torch.device("meta")``, without any.

        Raises:
            ModelError: the constructor raised, or returned something that is no module.
        """
        given = ", ".join(f"{k}={v!r}" for k, v in self.args.items()) or "no arguments"
        try:
            model = self.construct(**self.args)
        except SkipgradError:
            raise
        except Exception as error:
            raise ModelError(
                f"building the model {self.ref!r} with {given}",
                where=f"its constructor {self.signature}" if self.signature else "its constructor",
                received=f"{type(error).__name__}: {shorten(str(error))}",
                todo="correct the arguments given by --model-arg name=value",
            ) from error
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"building the model {self.ref!r} with {given}",
                received=f"a {type(model).__name__}, not a torch.nn.Module",
                todo="refer to a callable that returns the module",
            )
        return model

    def example(self, input_shape: tuple[int, ...] | None = None, device: str = "meta") -> Inputs:
        """Example inputs ``(args, kwargs)`` for the forward.

        Args:
            input_shape: shape of the main input, batch first; the model's natural shape when None.
            device: where to make them; ``"meta"`` needs no memory.

        Raises:
            BadInput: a shape that cannot be one, or no shape known for this model.
        """
        if input_shape is not None:
            input_shape = tuple(int(n) for n in input_shape)
            if not input_shape or any(n < 1 for n in input_shape):
                raise BadInput(
                    f"making an example input for {self.ref!r}",
                    received=f"the shape {input_shape}",
                    todo="give positive sizes, batch first: 1,3,224,224",
                )
        return self.inputs(self, input_shape, device)

    def inputs_of(self, modality: Literal["image", "text"], x: torch.Tensor) -> Inputs:
        """A batch of images or token ids as inputs ``(args, kwargs)`` of the forward."""
        name = self.keywords.get(modality)
        return ((x,), {}) if name is None else ((), {name: x})

    def with_args(self, **more: Any) -> ModelSource:
        """The same model with other constructor arguments."""
        return replace(self, args={**self.args, **more})

    def role(self, role: Role) -> Any:
        """The value in force for a role: given, else default; None when unknown."""
        name = self.roles.get(role)
        if name is not None and name in self.args:
            return self.args[name]
        return self.defaults.get(role)

    def free(self, role: Role) -> str | None:
        """The argument a fit may set for a role: None when there is none, or when the user set it."""
        name = self.roles.get(role)
        return None if name is None or name in self.user_args else name


def signature_of(call: Callable[..., Any]) -> str:
    """``name(arguments)`` of a callable, for messages."""
    name = getattr(call, "__name__", str(call))
    try:
        return name + str(inspect.signature(call))
    except (TypeError, ValueError):
        return f"{name}(…)"


def roles_of(call: Callable[..., Any], *roles: Role) -> tuple[dict[Role, str], dict[Role, Any]]:
    """Which arguments of a callable play which role, and their defaults.

    Args:
        call: a constructor.
        roles: which to look for; all when none are named.
    """
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):
        return {}, {}
    found: dict[Role, str] = {}
    defaults: dict[Role, Any] = {}
    for role in roles or tuple(ROLE_NAMES):
        for name in ROLE_NAMES[role]:
            if name in parameters:
                found[role] = name
                if parameters[name].default is not inspect.Parameter.empty:
                    defaults[role] = parameters[name].default
                break
    return found, defaults


def image(shape: tuple[int, ...], device: str) -> torch.Tensor:
    """A float image tensor: standard normal where it has memory, from a generator of its own."""
    if device == "meta":
        return torch.empty(shape, device=device)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def ids(shape: tuple[int, ...], device: str, vocabulary: int = 2) -> torch.Tensor:
    """Token ids from 0 to ``vocabulary - 1``, in rotation."""
    if device == "meta":
        return torch.empty(shape, dtype=torch.long, device=device)
    count = 1
    for n in shape:
        count *= n
    return (torch.arange(count) % max(1, vocabulary)).view(shape).to(device)


def refuse_weights(ref: str, args: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Raises BadInput where an argument asks for pretrained weights: skipgrad downloads nothing."""
    for name in names:
        if args.get(name) not in (None, False):
            raise BadInput(
                f"resolving the model {ref!r}",
                where=f"--model-arg {name}={args[name]}",
                received="a request for pretrained weights",
                todo="leave it out: skipgrad downloads nothing and starts from fresh weights",
            )
