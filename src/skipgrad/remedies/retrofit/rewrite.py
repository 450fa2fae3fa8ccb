"""Passes arguments of calls in a module's forward through small modules. Needs torch alone: it is pasted."""

import threading
from typing import ClassVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class Scale(nn.Module):
    """α·z with a learned scalar α."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), float(start)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.alpha.to(z.dtype)


class ChannelScale(nn.Module):
    """γ⊙z with a learned γ for each channel."""

    def __init__(self, width: int, axis: int, start: float = 1e-5) -> None:
        super().__init__()
        self.axis = axis
        self.gamma = nn.Parameter(torch.full((width,), float(start)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        shape = [1] * z.dim()
        shape[self.axis] = -1
        return z * self.gamma.to(z.dtype).view(shape)


class Factor(nn.Module):
    """c·z."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.factor


class DropPath(nn.Module):
    """b·z/p in training, where b is 1 with probability p, for each sample (or once for the batch); z otherwise."""

    def __init__(self, survival_prob: float, per_sample: bool = True) -> None:
        super().__init__()
        self.survival_prob, self.per_sample = survival_prob, per_sample

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if not self.training or self.survival_prob == 1:
            return z
        many = z.shape[0] if self.per_sample else 1
        kept = torch.empty((many,) + (1,) * (z.dim() - 1), dtype=z.dtype, device=z.device).bernoulli_(
            self.survival_prob
        )
        return z * (kept / self.survival_prob)


class LearnedScale(nn.Module):
    """z times a factor between 0 and 2 for each sample and channel, read off its mean (ScaleLong's LS)."""

    def __init__(self, width: int, axis: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, width // reduction)
        self.axis = axis
        self.down, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.up.weight)  # starts at 2·σ(0) = 1

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        axis = self.axis % z.dim()
        mean = z.mean([d for d in range(1, z.dim()) if d != axis])
        factor = 2 * torch.sigmoid(self.up(torch.relu(self.down(mean.to(self.down.weight.dtype)))))
        shape = [1] * z.dim()
        shape[0], shape[axis] = z.shape[0], z.shape[axis]
        return z * factor.to(z.dtype).view(shape)


_VALUES = threading.local()  # by tag: the first attention's values, while a forward is under way


class FirstValue(nn.Module):
    """z, kept for the attentions that follow in this forward."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        setattr(_VALUES, self.tag, z)
        return z


class MixedValue(nn.Module):
    """(1 − λ)·z + λ·z₁, with z₁ what `FirstValue` kept and λ learned; the last one lets go of it."""

    def __init__(self, tag: str, start: float = 0.5, last: bool = False) -> None:
        super().__init__()
        self.tag, self.last = tag, last
        self.mix = nn.Parameter(torch.full((1,), float(start)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        first = getattr(_VALUES, self.tag, None)
        if first is None or first.shape != z.shape:
            raise RuntimeError(
                f"skipgrad: values of shape {tuple(z.shape)} and none of that shape from {self.tag} in this forward "
                "(a cache, or a checkpoint that runs a block again): undo the edit"
            )
        if self.last:
            setattr(_VALUES, self.tag, None)
        return torch.lerp(z, first.to(z.dtype), self.mix.to(z.dtype))


class Normed(nn.Module):
    """norm(z), by a norm that lets everything pass where it stands."""

    def __init__(self, norm) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.norm = [norm]  # the forward of a module that stays where it is

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.norm[0](z)


class Edits(nn.ModuleDict):
    """The small modules of one edit. Its forward returns what it is given: an `nn.Sequential` runs all its children."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return x


class ScaleAndShift(TorchFunctionMode):
    """Around a norm's forward: in place of normalising, its input is scaled and shifted by its own weight and bias."""

    # name → (place of the weight, place of the bias, whether channels come first)
    CALLS: ClassVar = {
        "batch_norm": (3, 4, True),
        "instance_norm": (3, 4, True),
        "group_norm": (2, 3, True),
        "layer_norm": (2, 3, False),
        "rms_norm": (2, None, False),
    }

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") not in self.CALLS:
            return func(*args, **kwargs)
        weight_at, bias_at, first = self.CALLS[func.__name__]
        x = args[0] if args else kwargs["input"]
        weight = kwargs.get("weight", args[weight_at] if len(args) > weight_at else None)
        bias = None if bias_at is None else kwargs.get("bias", args[bias_at] if len(args) > bias_at else None)
        if weight is None:
            return x
        shape = (-1,) + (1,) * (x.dim() - 2) if first else weight.shape
        # Not an add, which the module around may be counting.
        return x * weight.view(shape) if bias is None else torch.addcmul(bias.view(shape), x, weight.view(shape))


class AtCalls(TorchFunctionMode):
    """Inside a module's forward, passes arguments of chosen calls through edits.

    A call is known by its function's name and by how many calls of that name the forward has made before it; those on
    tensors of whole numbers alone are not counted.

    Args:
        edits: the small modules by name.
        at: function name → number of the call → tensor argument, −1 for what it returns → name of the edit.
        where: the module, for messages.
    """

    def __init__(self, edits: nn.ModuleDict, at: dict[str, dict[int, dict[int, str]]], where: str = "") -> None:
        super().__init__()
        self.edits, self.at, self.where = edits, at, where
        self.counts: dict[str, int] = {}
        self.open = True

    def around(self, forward, args, kwargs):  # type: ignore[no-untyped-def]
        """Makes the forward with the calls edited; raises RuntimeError when it did not make them all."""
        if not self.open:
            return forward(*args, **kwargs)
        self.counts = dict.fromkeys(self.at, 0)
        with self:
            out = forward(*args, **kwargs)
        for name, calls in self.at.items():
            if self.counts[name] <= max(calls):
                raise RuntimeError(
                    f"skipgrad: {self.where or 'the model'} made {self.counts[name]} calls of {name}, and number "
                    f"{max(calls)} was to be edited: its forward took another route than when its skips were found. "
                    "Undo the edit, or find the skips again on such a forward"
                )
        return out

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in self.at or _kind((args, kwargs)) == 1:
            return func(*args, **kwargs)
        number = self.counts[name]
        self.counts[name] = number + 1
        places = self.at[name].get(number)
        if places is None:
            return func(*args, **kwargs)
        return self._edited(func, name, args, kwargs, places)

    def _edited(self, func, name, args, kwargs, places):  # type: ignore[no-untyped-def]
        given: list[torch.Tensor] = []
        _collect((args, kwargs), given)
        if max(places) >= len(given):
            raise RuntimeError(
                f"skipgrad: {name} in {self.where or 'the model'} has {len(given)} tensors: find the skips again"
            )
        new = list(given)
        for position, edit in places.items():
            if position < 0:
                continue
            z = given[position]
            if position == 0 and name.endswith("_") and not name.endswith("__"):
                # It is written to: whoever holds it must see the result.
                z.copy_(self.edits[edit](z.clone()))
            else:
                new[position] = self.edits[edit](z)
        args, kwargs = _replaced((args, kwargs), new, [0])
        out = func(*args, **kwargs)
        return self.edits[places[-1]](out) if -1 in places else out


def _kind(value):  # type: ignore[no-untyped-def]
    """2 when there is a tensor of real or complex numbers, 1 when there are only others, 0 when there is none."""
    if isinstance(value, torch.Tensor):
        return 2 if value.dtype.is_floating_point or value.dtype.is_complex else 1
    found = 0
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        for v in value:
            found = max(found, _kind(v))
            if found == 2:
                break
    return found


def _collect(value, into):  # type: ignore[no-untyped-def]
    if isinstance(value, torch.Tensor):
        into.append(value)
    elif isinstance(value, (list, tuple)):
        for v in value:
            _collect(v, into)
    elif isinstance(value, dict):
        for v in value.values():
            _collect(v, into)


def _replaced(value, new, at):  # type: ignore[no-untyped-def]
    if isinstance(value, torch.Tensor):
        at[0] += 1
        return new[at[0] - 1]
    if isinstance(value, (list, tuple)):
        return type(value)([_replaced(v, new, at) for v in value])
    if isinstance(value, dict):
        return {k: _replaced(v, new, at) for k, v in value.items()}
    return value
