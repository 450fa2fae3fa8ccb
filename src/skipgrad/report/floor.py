"""The gradient below which an update does nothing: it is smaller than half a unit in the weight's last place.

A weight w of a float format with p significant bits is left as it was by w − δ when |δ| is below half a unit in the
last place of w, which lies between 2^-(p+1)·|w| and 2^-p·|w|. With δ = η·g, a layer whose weights have the root mean
square w̄ and which has n of them stands still once its gradient ‖dL/dW‖ is below about w̄·2^-p·√n / η = ‖W‖·2^-p / η.
η is the learning rate where the step is plain gradient descent. Optimizers that rescale (Adam) or remember (momentum)
step by another factor; where the real step was measured it is taken from it, η = ‖ΔW‖ / ‖dL/dW‖.
"""

from __future__ import annotations

import math

from skipgrad.core import LayerRow

# Significant bits, the hidden one counted.
PRECISION = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
# With more of its weights stalled the measured step is no measure of the rate any more.
MOSTLY_MOVING = 0.5


def floor(row: LayerRow, rate: float | None, optimizer: str) -> float | None:
    """The floor of ‖dL/dW‖ of one layer at one step; None where its dtype or its rate is not known."""
    bits = PRECISION.get(row.dtype.removeprefix("torch."))
    step = _rate(row, rate, optimizer)
    if bits is None or step is None or not math.isfinite(row.weight_norm) or row.weight_norm <= 0:
        return None
    return row.weight_norm * 2.0**-bits / step


def _rate(row: LayerRow, rate: float | None, optimizer: str) -> float | None:
    gradient, update = row.weight_grad_norm, row.update_norm
    moving = row.stalled is None or row.stalled < MOSTLY_MOVING
    if moving and gradient and update and math.isfinite(gradient) and math.isfinite(update):
        return update / gradient
    return rate if rate and optimizer.lower() == "sgd" else None
