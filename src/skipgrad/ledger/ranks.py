"""Combines the figures that the processes of a distributed training have, into those of the whole batch and model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from skipgrad.core import LayerRow, MeasureError, Measurements, SkipRow


def gathered(mine: Measurements, group: Any, *, mean: bool, sharded: bool) -> Measurements:
    """`combined` of all ranks' measurements, on every rank. A collective call: all ranks make it.

    Raises:
        MeasureError: no process group.
    """
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()):
        raise MeasureError(
            "adding up the ledgers of all ranks",
            received="no process group",
            todo="call it between init_process_group and destroy_process_group; alone, rows() says it all",
        )
    parts: list[Any] = [None] * dist.get_world_size(group)
    own = (mine.skips, mine.layers, mine.losses, mine.notes)
    dist.all_gather_object(parts, own, group=group)
    return combined([replace(mine, skips=s, layers=r, losses=v, notes=n) for s, r, v, n in parts], mean, sharded)


def combined(parts: list[Measurements], mean: bool, sharded: bool) -> Measurements:
    """What one process with the whole batch would have measured.

    Args:
        parts: of all ranks.
        mean: the gradients of the ranks are averaged (DistributedDataParallel, ``fully_shard``), not added up.
        sharded: each rank has measured its own part of the weights.
    """
    share = 1 / len(parts) if mean else 1.0
    skips, lost = _by_key([{(r.step, r.micro, r.skip): r for r in p.skips} for p in parts])
    layers, lost_layers = _by_key([{(r.step, r.layer): r for r in p.layers} for p in parts])
    notes = list(dict.fromkeys(n for p in parts for n in p.notes))
    if lost or lost_layers:
        notes.append(f"{len(lost) + len(lost_layers)} rows are not on every rank, and are left out")
    if any(p.paths for p in parts):
        notes.append("path spectra are of one rank's own batch, and are left out")
    if any(p.changes for p in parts):
        notes.append("changes of the branches are of one rank's own batch, and are left out")
    return replace(
        parts[0],
        skips=tuple(_skip(rows, share) for rows in skips),
        layers=tuple(_layer(rows, share, sharded) for rows in layers),
        losses=parts[0].losses,
        notes=tuple(notes),
        paths=(),
        changes=(),
    )


def _by_key(parts: list[dict[Any, Any]]) -> tuple[list[list[Any]], set[Any]]:
    """The rows that every process has, in the order of the first process; and the keys of the others."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for part in parts:
        for key, row in part.items():
            found[key].append(row)
    whole = [rows for rows in found.values() if len(rows) == len(parts)]
    return whole, {key for key, rows in found.items() if len(rows) < len(parts)}


def _norm(values: Iterable[float]) -> float:
    return math.hypot(*values)


def _skip(rows: list[SkipRow], share: float) -> SkipRow:
    # Each rank's gradients are those of its own part of the batch, so the squares of their norms add up.
    s, b, total, out = (
        share * _norm(getattr(r, name) for r in rows) for name in ("skip_norm", "branch_norm", "total_norm", "out_norm")
    )
    dot = share**2 * sum(r.cosine * r.skip_norm * r.branch_norm for r in rows)
    whole = s * s + b * b
    finite = all(r.finite for r in rows)
    residual = abs(total * total - whole - 2 * dot) / whole if whole > 0 else 0.0
    return replace(
        rows[0],
        skip_norm=s, branch_norm=b, total_norm=total, out_norm=out,
        cosine=dot / (s * b) if s > 0 and b > 0 else 0.0,
        gain=total / out if out > 0 else math.nan,
        x_rms=_norm(r.x_rms for r in rows) / math.sqrt(len(rows)),
        branch_rms=_norm(r.branch_rms for r in rows) / math.sqrt(len(rows)),
        residual=residual if finite else math.nan,
        finite=finite,
    )  # fmt: skip


def _layer(rows: list[LayerRow], share: float, sharded: bool) -> LayerRow:
    first = replace(
        rows[0], out_grad_norm=share * _norm(r.out_grad_norm for r in rows), finite=all(r.finite for r in rows)
    )
    if not sharded:  # the replicas' weights are the same
        return first
    count = sum(r.weights for r in rows)

    def over(name: str, how: Callable[[list[tuple[float, int]]], float]) -> float | None:
        known = [(getattr(r, name), r.weights) for r in rows if getattr(r, name) is not None and r.weights]
        return how(known) if known else None

    def norm(known: list[tuple[float, int]]) -> float:
        return _norm(v for v, _ in known)

    def part(known: list[tuple[float, int]]) -> float:
        return sum(v * n for v, n in known) / sum(n for _, n in known)

    return replace(
        first,
        weight_norm=over("weight_norm", norm) or 0.0,
        weight_grad_norm=over("weight_grad_norm", norm),
        update_norm=over("update_norm", norm),
        stalled=over("stalled", part),
        zero_grad=over("zero_grad", part),
        weights=count,
    )
