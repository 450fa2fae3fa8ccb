"""The numbers a finding rests on, each with what it is relative to.

A check names its figures by short keys; those that are ratios or shares are spelt out here. A key that is not listed is
shown as it is, its underscores as spaces: counts and names speak for themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from skipgrad.core import units
from skipgrad.report.text import clean, times, value

_SPELT: dict[str, tuple[str, Callable[[float], str]]] = {
    "first_to_last": ("gradient of the first layers / the last ones'", times),
    "first_to_last_at_start": ("the same at the first step", times),
    "weights_first_to_last": ("‖dL/dW‖ / ‖W‖, first layers / last ones", times),
    "per_layer_factor": ("factor a layer, going back", times),
    "largest_share": ("largest share", units.percent),
    "stalled": ("share of weights the step left unchanged", units.percent),
    "rho": ("ρ, branch to skip over the whole net", times),
    "rms_branch_to_skip": ("‖B‖ / ‖S‖, root mean square over the skips", times),
    "largest_branch_to_skip": ("largest ‖B‖ / ‖S‖", times),
    "growth_per_block": ("growth of the stream's RMS a block", times),
    "last_to_first": ("stream's RMS, last block / first", times),
    "second_half_growth": ("growth of the stream's RMS in the second half", times),
    "first_rms": ("stream's RMS at the first block", value),
    "last_rms": ("stream's RMS at the last block", value),
    "relative_update": ("update / weight", times),
    "relative_floor": ("smallest update / weight that the dtype holds", times),
    "norm_gain": ("gain of a norm on the trunk", times),
    "shortcut_product": ("product of the shortcuts' gains", times),
    "outer_to_inner_gradient": ("gradient of the outer long skip / the inner", times),
    "mean_length": ("signed mean path length, in branches", value),
    "unsigned_mean_length": ("unsigned mean path length", value),
    "mean_length_at_start": ("signed mean before the first step", value),
    "longest_path": ("branches on the longest path", value),
    "share_past_all": ("share of the gradient past all branches", units.percent),
    "cancellation": ("Σ‖c_k‖ / ‖g‖, 1 where no paths cancel", times),
    "residual": ("error of the parts' sum, relative to the gradient", units.percent),
    "starved_share": ("gradient of the starved stretch / its poorer side", times),
    "update_of_others": ("how fast these layers change / the others", times),
    "loss_first": ("loss at the start", value),
    "loss_last": ("loss at the end", value),
    "loss_best": ("loss at its best, smoothed", value),
    "loss_noise": ("noise of the loss from step to step", value),
    "loss_of_chance": ("loss of an answer that is always the same", value),
    "loss_elasticity": ("share of the loss the strongest layer could move", units.percent),
    "inner_to_outer_rms": ("RMS of the inner long skip / the outer", times),
}


def evidence(figures: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Label and text of each figure; those that were not measured are left out."""
    out = []
    for key, thing in figures.items():
        label, write = _SPELT.get(key, (clean(key).replace("_", " "), value))
        if thing is None:
            continue
        # A figure that was infinite or NaN comes as text from the checks.
        number = isinstance(thing, (int, float)) and not isinstance(thing, bool) and not math.isnan(thing)
        out.append((label, write(float(thing) if key in _SPELT else thing) if number else value(thing)))
    return tuple(out)
