"""The gradients of normalization layers.

y = γ·x̂ + β with x̂ = (x − μ)/σ. Where μ and σ are x's own statistics, x acts on y in three ways: by itself, through μ
and through σ. The popular formula γ/σ·dL/dy is the first of the three, and the whole only where μ and σ are constants.
(Ioffe and Szegedy 2015, arXiv:1502.03167, section 3, in closed form.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.probes.table.kinds.kind import Kind, Part, Shape

SPATIAL = ((), (5,), (5, 5), (3, 4, 3))  # default sizes, by number of spatial dimensions


class _Norm(Kind):
    """What all norms have in common; `over` tells which values share one μ and σ."""

    centred = True  # whether μ is taken off
    whose = "each example's"

    def own(self, layer: Any) -> bool:
        """Whether the statistics are x's own, in the layer's mode."""
        return True

    def split(self, layer: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """x in a shape in which one μ and σ belong to whole dimensions, and these dimensions."""
        raise NotImplementedError

    def gain(self, layer: Any, x: Tensor) -> Tensor:
        """γ in a shape that multiplies x; a one where there is none."""
        weight = layer.weight
        return x.new_ones(()) if weight is None else weight.reshape(-1, *(1,) * (x.dim() - 2))

    def frozen(self, layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Running mean and variance in a shape that goes with x."""
        raise NotImplementedError

    def eps(self, layer: Any, x: Tensor) -> float:
        return layer.eps

    def standardized(self, layer: Any, x: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """x̂ and σ in the shape of `split`, and the dimensions they are taken over."""
        split, dims = self.split(layer, x)
        if self.own(layer):
            mean = split.mean(dims, keepdim=True) if self.centred else split.new_zeros(())
            variance = ((split - mean) ** 2).mean(dims, keepdim=True)
        else:
            mean, variance = self.frozen(layer, x)
        sigma = torch.sqrt(variance + self.eps(layer, x))
        return (split - mean) / sigma, sigma, dims

    def letters(self, layer: Any) -> tuple[str, str]:
        """What γ/σ is called, and h = γ·dL/dy: γ is left out where there is none."""
        return ("1/σ", "{g}") if layer.weight is None else ("γ/σ", "γ·{g}")

    def formula(self, layer: Any) -> str:
        factor, h = self.letters(layer)
        if not self.own(layer):
            return f"{factor}·{{g}}"
        named = layer.weight is not None
        letter = "h" if named else "{g}"
        mean = f" − mean({letter})" if self.centred else ""
        return f"1/σ·({letter}{mean} − x̂·mean(x̂·{letter}))" + (f", h = {h}" if named else "")

    def parts(self, layer: Any, x: Tensor, g: Tensor) -> tuple[Part, ...]:
        hat, sigma, dims = self.standardized(layer, x)
        h = (self.gain(layer, x) * g).reshape(hat.shape)
        direct = Part("past the statistics", self.formula(layer), (h / sigma).reshape(x.shape))
        if not self.own(layer):
            return (direct,)
        factor, text = self.letters(layer)
        ways = [Part("past the statistics", f"{factor}·{{g}}", direct.gradient)]
        if self.centred:
            mean = -h.mean(dims, keepdim=True) / sigma
            ways.append(Part("through the mean", f"−1/σ·mean({text})", mean.expand_as(hat).reshape(x.shape)))
        slope = -hat * (hat * h).mean(dims, keepdim=True) / sigma
        ways.append(Part("through the variance", f"−1/σ·x̂·mean(x̂·{text})", slope.reshape(x.shape)))
        return tuple(ways)

    def popular_formula(self, layer: Any) -> str | None:
        return f"{self.letters(layer)[0]}·{{g}}"

    def popular(self, layer: Any, x: Tensor, g: Tensor) -> Tensor | None:
        _, sigma, _ = self.standardized(layer, x)
        split, _ = self.split(layer, x)
        return ((self.gain(layer, x) * g).reshape(split.shape) / sigma).reshape(x.shape)

    def note(self, layer: Any) -> str:
        if not self.own(layer):
            return f"{self.name} with running statistics: σ is a constant, and the popular formula is the whole"
        more = "two more terms" if self.centred else "one more term"
        kept = "mean and σ are" if self.centred else "σ² = mean(x²) + ε is"
        return f"{self.name}: {kept} {self.whose} own, so that x acts through them too ({more})"

    def alone(self, layer: Any) -> Shape | None:
        return (4, layer.num_features, *self.spatial(layer))

    def spatial(self, layer: Any) -> Shape:
        """Default sizes of the spatial dimensions; the digit in the class's name tells how many there are."""
        base = next(t for t in self.types if isinstance(layer, t))
        return SPATIAL[int(base.__name__[-2])]


class BatchNorm(_Norm):
    """One μ and σ a channel, over all examples and positions; running ones in evaluation mode."""

    name, types, whose = "batch norm", (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "the batch's"

    def own(self, layer: Any) -> bool:
        return layer.training or (layer.running_mean is None and layer.running_var is None)

    def by_mode(self, layer: Any) -> bool:
        return layer.running_mean is not None or layer.running_var is not None

    def split(self, layer: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        return x, tuple(i for i in range(x.dim()) if i != 1)

    def frozen(self, layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *(1,) * (x.dim() - 2))
        return layer.running_mean.reshape(shape), layer.running_var.reshape(shape)

    def formula(self, layer: Any) -> str:
        # γ is the same for all values that share one σ, and can be taken out.
        factor, _ = self.letters(layer)
        return f"{factor}·({{g}} − mean({{g}}) − x̂·mean(x̂·{{g}}))" if self.own(layer) else f"{factor}·{{g}}"

    def shape(self, layer: Any, out: Shape | None) -> Shape | None:
        return out or self.alone(layer)


class InstanceNorm(BatchNorm):
    """One μ and σ a channel of each example."""

    name, whose = "instance norm", "each example's"
    types = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

    def own(self, layer: Any) -> bool:
        return layer.training or not layer.track_running_stats

    def by_mode(self, layer: Any) -> bool:
        return layer.track_running_stats

    def split(self, layer: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        return x, tuple(range(-self._dims(layer), 0))

    def frozen(self, layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *(1,) * self._dims(layer))
        return layer.running_mean.reshape(shape), layer.running_var.reshape(shape)

    def gain(self, layer: Any, x: Tensor) -> Tensor:
        return x.new_ones(()) if layer.weight is None else layer.weight.reshape(-1, *(1,) * self._dims(layer))

    def _dims(self, layer: Any) -> int:
        return len(self.spatial(layer))


class GroupNorm(_Norm):
    """One μ and σ a group of channels of each example."""

    name, types = "group norm", (nn.GroupNorm,)

    def split(self, layer: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        return x.reshape(x.shape[0], layer.num_groups, -1), (2,)

    def alone(self, layer: Any) -> Shape | None:
        return (4, layer.num_channels, 5, 5)


class LayerNorm(_Norm):
    """One μ and σ for the last dimensions, those of γ."""

    name, types = "layer norm", (nn.LayerNorm,)

    def split(self, layer: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        return x, tuple(range(-len(layer.normalized_shape), 0))

    def gain(self, layer: Any, x: Tensor) -> Tensor:
        return x.new_ones(()) if layer.weight is None else layer.weight

    def shape(self, layer: Any, out: Shape | None) -> Shape | None:
        return out or (4, 5, *layer.normalized_shape)


class RMSNorm(LayerNorm):
    """As layer norm, without μ: σ² = mean(x²) + ε."""

    name, types, centred = "RMS norm", (nn.RMSNorm,), False

    def eps(self, layer: Any, x: Tensor) -> float:
        return torch.finfo(x.dtype).eps if layer.eps is None else layer.eps
