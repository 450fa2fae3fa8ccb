"""What a spawned process does with a model that was handed to it out of a watch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def trains(model: nn.Module, x: torch.Tensor, answers: Any) -> None:
    """Trains a step, and answers with the loss, the gradient, and the attributes that are not a module's own."""
    more = [name for m in model.modules() for name in vars(m) if name in ("forward", "_compiled_call_impl")]
    loss = model(x).square().sum()
    loss.backward()
    grads = [p.grad.tolist() for p in model.parameters() if p.grad is not None]
    answers.put((float(loss.detach()), grads, more))
