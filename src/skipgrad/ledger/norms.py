"""Norms that neither underflow nor lose digits, in as few passes over the tensor as can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 256
BLOCK = 1 << 14  # 64 kB of float32: two of them and their sum stay in a core's own cache
# Between these, squares of the elements that matter are far from the ends of float32's range.
SAFE = (1e-12, 1e15)


def plain_norm(t: Tensor) -> Tensor:
    """‖t‖ in one pass. Adds up in chunks: one running sum shows in the sixth digit of a large float32 tensor."""
    if t.is_contiguous() and t.numel() >= 16 * CHUNK and not torch.compiler.is_compiling():
        flat = t.view(-1)
        whole = flat.numel() // CHUNK * CHUNK
        norm = torch.linalg.vector_norm(torch.linalg.vector_norm(flat[:whole].view(-1, CHUNK), dim=1))
        return norm if whole == flat.numel() else torch.hypot(norm, torch.linalg.vector_norm(flat[whole:]))
    return (t * t).sum().sqrt()


def measure(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(m, ‖t/m‖, t/m) with a scale m that keeps the squares in range; the norm is the product of the first two.

    On a CPU, outside a compiled graph, the norm is looked at: where it is in a safe range m is 1, and t is read
    once. Elsewhere looking would stop the device, and m is always the largest size in t.
    """
    if t.numel() == 0:
        none = t.new_zeros(())
        return none, none, t
    if t.device.type == "cpu" and not torch.compiler.is_compiling():
        norm = plain_norm(t)
        if SAFE[0] < float(norm) < SAFE[1]:
            return torch.ones_like(norm), norm, t
    low, high = torch.aminmax(t)
    size = torch.maximum(high, -low)
    usable = torch.where((size > 0) & torch.isfinite(size), size, torch.ones_like(size))
    unit = t / usable
    return size, plain_norm(unit), unit


def pair(s: Tensor, b: Tensor) -> tuple[float, float, float, float] | None:
    """(‖s‖, ‖b‖, ‖s+b‖, ⟨s,b⟩) of two CPU tensors, block by block, so that s+b never leaves the cache.

    None where it cannot be done so: another device, a compiled graph, other layouts, or a range that wants scaling.
    """
    if s.device.type != "cpu" or torch.compiler.is_compiling() or not (s.is_contiguous() and b.is_contiguous()):
        return None
    flat_s, flat_b = s.view(-1), b.view(-1)
    sums = [0.0, 0.0, 0.0, 0.0]
    for start in range(0, flat_s.numel(), BLOCK):
        block_s, block_b = flat_s[start : start + BLOCK], flat_b[start : start + BLOCK]
        both = block_s + block_b
        sums[0] += float(torch.dot(block_s, block_s))
        sums[1] += float(torch.dot(block_b, block_b))
        sums[2] += float(torch.dot(both, both))
        sums[3] += float(torch.dot(block_s, block_b))
    squares = sums[:3]
    if not all(SAFE[0] ** 2 < q < SAFE[1] ** 2 for q in squares):
        return None
    return math.sqrt(sums[0]), math.sqrt(sums[1]), math.sqrt(sums[2]), sums[3]


def norm_of(tensors: list[Tensor]) -> tuple[float, bool]:
    """L2 norm over all tensors as a number, and whether it is finite."""
    total = 0.0
    for t in tensors:
        if t.numel() == 0:
            continue
        wide = t.detach() if t.dtype in (torch.float32, torch.float64) else t.detach().float()
        size, unit, _ = measure(wide)
        value = float(size) * float(unit)
        if not math.isfinite(float(size)) or not math.isfinite(float(unit)):
            return float(size) if not math.isfinite(float(size)) else float(unit), False
        total = math.hypot(total, value)
    return total, True
