"""Norms that neither underflow nor lose digits, with as few passes over the tensor as possible."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

CHUNK = 256  # elements that are added up in one running sum; the sums of chunks are added up after that
# 256 kB of float32: two of them and their sum stay in a core's own cache, and a running sum keeps its seventh digit.
BLOCK = 1 << 16
# Between these, squares of the elements that matter are far from the ends of float32's range.
SAFE = (1e-12, 1e15)
# Evenly spaced blocks of so many neighbours (a line of a core's cache) can stand for a tensor that has twice as many
# elements as they have together.
NEIGHBOURS = 16
# Norms beyond the first two are divided by the second two, powers of two.
SMALL, LARGE, TINY, HUGE = 1e-18, 1e18, 2.0**-100, 2.0**100
_kept = threading.local()


def flat(t: Tensor) -> Tensor:
    """All elements in one row, in the order of memory where that can be had without a copy."""
    if t.is_contiguous():
        return t.view(-1)
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(t.stride(), t.shape, strict=True) if n > 1):
        if stride != expected:
            return t.reshape(-1)
        expected *= size
    return t.as_strided((t.numel(),), (1,))


def sample(t: Tensor, blocks: int) -> Tensor:
    """The elements that stand for a tensor, in the order of memory: blocks of a large one, all of a small one."""
    row = flat(t)
    if row.numel() <= 2 * blocks * NEIGHBOURS:
        return row
    # The stride is 7 less than even spacing gives: a stride that is a multiple of a row's length would take all blocks
    # from the same channel.
    return row.as_strided((blocks, NEIGHBOURS), (row.numel() // blocks - 7, 1), row.storage_offset())


def squares(t: Tensor, wide: torch.dtype) -> float:
    """The sum of the squares of a CPU tensor, in float32 or float64, block by block, so that no digits are lost."""
    if t.dtype == wide and t.is_contiguous():
        row = t.view(-1)
    else:
        row = _scratch(wide, t.numel())[: t.numel()]
        row.view(t.shape).copy_(t)
    if row.numel() <= BLOCK:
        return torch.dot(row, row).item()
    return sum([torch.dot(block, block).item() for block in row.split(BLOCK)])


def plain_norm(t: Tensor) -> Tensor:
    """‖t‖ in one pass. Adds up in chunks: one running sum shows in the sixth digit of a large float32 tensor."""
    if torch.compiler.is_compiling():
        return (t * t).sum().sqrt()
    row = flat(t)
    whole = row.numel() // CHUNK * CHUNK
    if whole < 16 * CHUNK:
        return torch.linalg.vector_norm(row)
    norm = torch.linalg.vector_norm(torch.linalg.vector_norm(row[:whole].view(-1, CHUNK), dim=1))
    return norm if whole == row.numel() else torch.hypot(norm, torch.linalg.vector_norm(row[whole:]))


def looked_at(t: Tensor) -> bool:
    """Whether a figure of the tensor can be read without stopping a device or breaking a compiled graph."""
    return t.device.type == "cpu" and not torch.compiler.is_compiling()


def measure(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(m, ‖t/m‖, t/m) with a scale m that keeps the squares in range; the norm is the product of the first two.

    On a CPU, outside a compiled graph, the norm is looked at: where it is in a safe range m is 1, and t is read
    once. Elsewhere looking would stop the device, and m is always the largest size in t.
    """
    if t.numel() == 0:
        none = t.new_zeros(())
        return none, none, t
    if looked_at(t):
        norm = plain_norm(t)
        if SAFE[0] < float(norm) < SAFE[1]:
            return torch.ones_like(norm), norm, t
    low, high = torch.aminmax(t)
    size = torch.maximum(high, -low)
    usable = torch.where((size > 0) & torch.isfinite(size), size, torch.ones_like(size))
    unit = t / usable
    return size, plain_norm(unit), unit


def in_one_pass(t: Tensor) -> bool:
    """Whether squares are added up in float64, where those of a float32 stay in range: in code the compiler makes.

    The compiler reads a tensor once for all such sums. In eager mode a copy in float64 would be made first.
    """
    return torch.compiler.is_compiling() and t.device.type == "cpu" and t.dtype != torch.float64


def root(square: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(m, norm/m) of a sum of squares in float64, with an m that keeps both in the range of ``dtype``."""
    norm = square.sqrt()
    one = torch.ones_like(norm)
    scale = torch.where(norm < SMALL, one * TINY, torch.where(norm > LARGE, one * HUGE, one))
    return scale.to(dtype), (norm / scale).to(dtype)


def size_of(t: Tensor) -> tuple[float, float]:
    """The first two of `measure` as numbers, for a tensor that can be looked at."""
    if t.numel() == 0:
        return 0.0, 0.0
    square = squares(flat(t), t.dtype)
    if SAFE[0] ** 2 < square < SAFE[1] ** 2:
        return 1.0, math.sqrt(square)
    size, unit, _ = measure(t)
    return float(size), float(unit)


def pair(s: Tensor, b: Tensor) -> tuple[float, float, float, float] | None:
    """(‖s‖, ‖b‖, ‖s+b‖, ⟨s,b⟩) of two CPU tensors, block by block, so that s+b never leaves the cache.

    None where it cannot be done so: another device, a compiled graph, layouts that differ, or a range that wants
    scaling.
    """
    if not looked_at(s) or s.stride() != b.stride():
        return None
    row_s, row_b = flat(s), flat(b)
    many = row_s.numel()
    both = _scratch(s.dtype, min(BLOCK, many))
    pieces = [(row_s, row_b)] if many <= BLOCK else zip(row_s.split(BLOCK), row_b.split(BLOCK), strict=True)
    square_s = square_b = square_t = dot = 0.0
    for one, other in pieces:
        total = torch.add(one, other, out=both[: one.numel()])
        square_s += torch.dot(one, one).item()
        square_b += torch.dot(other, other).item()
        square_t += torch.dot(total, total).item()
        dot += torch.dot(one, other).item()
    if not all(SAFE[0] ** 2 < q < SAFE[1] ** 2 for q in (square_s, square_b, square_t)):
        return None
    return math.sqrt(square_s), math.sqrt(square_b), math.sqrt(square_t), dot


def _scratch(dtype: torch.dtype, many: int) -> Tensor:
    """Room for a block, the same at every call: fresh memory costs more than what is written to it."""
    rooms: dict[torch.dtype, Tensor] = _kept.__dict__.setdefault("rooms", {})
    if dtype not in rooms or rooms[dtype].numel() < many:
        rooms[dtype] = torch.empty(many, dtype=dtype)
    return rooms[dtype]


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
