"""What `sg.path_spectrum` and its sampled twin return. Plain data, no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from skipgrad.core.errors import BadInput


@dataclass(frozen=True)
class PathSpectrum:
    """The gradient at a fork, sorted by how many branches it came through: g = c_0 + c_1 + … + c_n.

    Norms are L2 norms over the whole batch tensor. A share is signed: paths that cancel others have one below zero,
    and single shares may be far above one.

    Attributes:
        at: the skip whose fork is meant.
        lengths: path lengths k, from 0 on.
        norms: ‖c_k‖ per length.
        shares: ⟨c_k, g⟩ / ‖g‖² per length; with `longer_share` they add up to 1.
        longer_norm: norm of what came along paths longer than the last of `lengths`; 0 where nothing is left over.
        longer_share: share of that.
        grad_norm: ‖g‖, autograd's gradient at the fork.
        mean_length: signed mean, Σ k·⟨c_k, g⟩ / ‖g‖² over *all* lengths, also those left over.
        residual: ‖Σ c_k + (what is left over) − g‖ / ‖g‖: the measurement's own error.
        branches: branch operands that count, over all skips.
        skips: names of the add skips they belong to, in order of execution of the merges.
        unsplit: names of skips of other kinds behind the fork; paths through them are not told apart.
        notes: what was surprising.
        dtype: of the gradient.
        reason: why there is nothing to measure; empty where something was measured, else all figures are zero.
    """

    at: str
    lengths: tuple[int, ...]
    norms: tuple[float, ...]
    shares: tuple[float, ...]
    longer_norm: float
    longer_share: float
    grad_norm: float
    mean_length: float
    residual: float
    branches: int
    skips: tuple[str, ...]
    unsplit: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dtype: str = ""
    reason: str = ""

    @classmethod
    def nothing(cls, reason: str, at: str = "") -> PathSpectrum:
        """The record of a net that has no gradient to sort at this moment, and why."""
        return cls(at, (), (), (), 0.0, 0.0, 0.0, 0.0, 0.0, 0, (), reason=reason)

    @property
    def measured(self) -> bool:
        """Whether there was something to measure."""
        return not self.reason

    @property
    def complete(self) -> bool:
        """Whether no longer paths were left over."""
        return self.longer_norm == 0.0

    @property
    def unsigned_mean_length(self) -> float | None:
        """Σ k·‖c_k‖ / Σ ‖c_k‖, which knows of no cancellation; None where longer paths were left over."""
        total = sum(self.norms)
        if not self.complete or not total:
            return None
        return sum(k * n for k, n in zip(self.lengths, self.norms, strict=True)) / total

    @property
    def cancellation(self) -> float:
        """Σ ‖c_k‖ / ‖g‖: 1 where nothing cancels; norms summed without their signs overstate the gradient by this."""
        return (sum(self.norms) + self.longer_norm) / self.grad_norm if self.grad_norm else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `unsigned_mean_length` follows from the rest, and is there for other programs."""
        return {**asdict(self), "unsigned_mean_length": self.unsigned_mean_length}

    def to_json(self, indent: int | None = 2) -> str:
        """JSON; `from_json` reads it back to an equal record."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @property
    def longest(self) -> int:
        """The length of the longest path; the number of branches where it was not measured."""
        # A gradient that goes past all branches leaves nothing over, whatever the lengths asked for.
        return self.lengths[-1] if self.complete and len(self.lengths) > 1 else self.branches

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PathSpectrum:
        """Makes one of what `to_dict` gave."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(data).items()}
        values.pop("unsigned_mean_length", None)
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> PathSpectrum:
        """Reads what `to_json` wrote.

        Raises:
            BadInput: text that is not such JSON.
        """
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise BadInput(
                "reading a PathSpectrum",
                received=f"text that is none ({type(error).__name__}: {error})",
                todo="pass what PathSpectrum.to_json() wrote",
            ) from error


@dataclass(frozen=True)
class PathRow:
    """The path spectrum of a net in training, at one moment.

    Attributes:
        step: how many steps the optimizer had taken; 0 is before the first.
        spectrum: what was measured; None where it could not be.
        reason: why not.
    """

    step: int
    spectrum: PathSpectrum | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the spectrum's as `PathSpectrum.to_dict` gives it."""
        return {
            "step": self.step,
            "spectrum": None if self.spectrum is None else self.spectrum.to_dict(),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class SampledSpectrum:
    """The estimate of Veit et al. (2016): per length, some random paths, their mean times the number of paths.

    `norms` adds up the norms of single paths, as the paper does: an upper bound on ‖c_k‖, as paths cancel.
    `shares` is an unbiased estimate of the exact shares.

    Attributes:
        at: the skip whose fork is meant.
        lengths: path lengths k.
        paths: how many paths of each length there are.
        norms: paths · mean ‖path‖ / ‖g‖.
        norm_errors: standard errors of `norms`.
        shares: paths · mean ⟨path, g⟩ / ‖g‖².
        share_errors: standard errors of `shares`.
        samples: paths drawn per length.
        grad_norm: ‖g‖, autograd's gradient at the fork.
        skips: names of the add skips whose branches count.
    """

    at: str
    lengths: tuple[int, ...]
    paths: tuple[int, ...]
    norms: tuple[float, ...]
    norm_errors: tuple[float, ...]
    shares: tuple[float, ...]
    share_errors: tuple[float, ...]
    samples: int
    grad_norm: float
    skips: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
