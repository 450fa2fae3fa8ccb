"""The extreme eigenvalues of a loss's Hessian by Lanczos, without the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from skipgrad.core.errors import BadInput, MeasureError


@dataclass(frozen=True)
class Extremes:
    """The ends of a Hessian's spectrum.

    Attributes:
        low: the smallest eigenvalue.
        high: the largest.
        steps: Lanczos steps made.
        residual: the larger of both ends' ‖Hv − λv‖ / |λ|max: the method's own error.
    """

    low: float
    high: float
    steps: int
    residual: float


def extreme_eigenvalues(
    model: nn.Module, loss: Callable[[], Tensor], *, steps: int = 30, tolerance: float = 1e-3, seed: int = 0
) -> Extremes:
    """The smallest and largest eigenvalue of ∂²L/∂W².

    Lanczos with full reorthogonalisation; one step is one product with the Hessian, a backward of a backward. The net
    has to be in the mode wanted: in evaluation mode batch norm is linear.

    Args:
        model: the net; parameters that require a gradient count.
        loss: runs the net and returns the scalar loss, the same at each call.
        steps: at most.
        tolerance: it stops when both ends' residuals are below that share of the larger of them.
        seed: of the first vector.

    Raises:
        BadInput: a loss without a gradient.
        MeasureError: an op of the net has no second derivative.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no second derivative
        value = loss()
    if not value.requires_grad:
        raise BadInput("computing a Hessian", received="a loss without a gradient", todo="run it with gradients on")
    grads = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
    used = [(p, g) for p, g in zip(parameters, grads, strict=True) if g is not None]
    weights, flat = [p for p, _ in used], torch.cat([g.flatten() for _, g in used])

    def product(v: Tensor) -> Tensor:
        try:
            parts = torch.autograd.grad(flat, weights, v, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise MeasureError(
                "computing a Hessian",
                received=f"an op without a second derivative: {error}",
                todo="run the net with another implementation of that op",
            ) from error
        return torch.cat(
            [(torch.zeros_like(p) if h is None else h).flatten() for p, h in zip(weights, parts, strict=True)]
        )

    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(flat.numel(), generator=generator).to(flat)
    basis = [v / v.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    found = Extremes(0.0, 0.0, 0, 1.0)
    for k in range(min(steps, flat.numel())):
        w = product(basis[k])
        diagonal.append(float(w @ basis[k]))
        for q in basis:  # twice is enough
            w = w - (w @ q) * q
        for q in basis:
            w = w - (w @ q) * q
        rest = float(w.norm())
        found = _ends(diagonal, beside, rest)
        if rest < 1e-12 or found.residual <= tolerance:
            break
        beside.append(rest)
        basis.append(w / rest)
    return found


def _ends(diagonal: Sequence[float], beside: Sequence[float], rest: float) -> Extremes:
    t = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for i, b in enumerate(beside):
        t[i, i + 1] = t[i + 1, i] = b
    values, vectors = torch.linalg.eigh(t)
    scale = max(abs(float(values[0])), abs(float(values[-1])), 1e-30)
    residual = rest * max(abs(float(vectors[-1, 0])), abs(float(vectors[-1, -1]))) / scale
    return Extremes(float(values[0]), float(values[-1]), len(diagonal), residual)
