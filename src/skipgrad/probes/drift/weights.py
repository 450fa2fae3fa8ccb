"""The weights of the layers at the start, and how far they have come."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skipgrad.core import MeasureError
from skipgrad.core.drift import WeightDrift
from skipgrad.finder import Found
from skipgrad.probes.drift.compare import compare, cosine, over
from skipgrad.probes.drift.refuse import DOING


def put_back(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Puts back weights that are no longer what they were; returns their names."""
    written = []
    with torch.no_grad():
        for name, p in model.named_parameters():
            kept = weights[name]
            if not bool(((p == kept) | ((p != p) & (kept != kept))).all()):
                p.copy_(kept)
                written.append(name)
    return written


def weights_of(found: Found, copies: dict[str, Tensor]) -> dict[str, tuple[int, dict[str, Tensor]]]:
    """Layer → (depth, its weights at the start), biases and norms left out."""
    out: dict[str, tuple[int, dict[str, Tensor]]] = {}
    for depth, (name, node) in enumerate(found.layers):
        mine = {p: copies[p] for p in node.params if p in copies and copies[p].dim() > 1}
        if mine:
            out.setdefault(name.split("#")[0], (depth, mine))
    return out


def weight_drift(model: nn.Module, at_start: dict[str, tuple[int, dict[str, Tensor]]]) -> tuple[WeightDrift, ...]:
    """Per layer its weights now against those at the start.

    Raises:
        MeasureError: a weight that is gone, or of another shape.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    out = []
    for layer, (depth, start) in at_start.items():
        norm = start_norm = moved = dot = 0.0
        for name, w_0 in start.items():
            w = named.get(name)
            if w is None or w.shape != w_0.shape:
                raise MeasureError(
                    DOING,
                    where=f"the weight {name!r}",
                    received="none of that name" if w is None else f"shape {tuple(w.shape)}",
                    todo=f"take a new Drift: at the start it had shape {tuple(w_0.shape)}",
                )
            one = compare(w.detach(), w_0)
            norm, start_norm, moved = (
                math.hypot(norm, one[0]),
                math.hypot(start_norm, one[1]),
                math.hypot(moved, one[2]),
            )
            dot += one[3]
        out.append(
            WeightDrift(
                layer=layer,
                depth=depth,
                weights=sum(w.numel() for w in start.values()),
                start_norm=start_norm,
                norm=norm,
                moved=moved,
                change=over(moved, start_norm),
                cosine=cosine(norm, start_norm, moved, dot),
            )
        )
    return tuple(out)
