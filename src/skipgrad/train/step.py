"""One optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import ModelError
from skipgrad.instrument.faults import explained
from skipgrad.train.aids.clipping import clip_adaptively
from skipgrad.train.precision import autocast
from skipgrad.train.session import Session


def take_step(session: Session, number: int, batches: Sequence[Any]) -> float:
    """Forward and backward over the micro-batches, then one step of the optimizer and what follows it.

    A loss that is not finite is returned, and no step is taken with it.

    Raises:
        ModelError: the model's forward, backward or the loss raises; names the module and the inputs.
    """
    recipe, optimizer, scale, group = session.recipe, session.optimizer, session.scaler, session.group
    batches = [batch.to(session.device) for batch in batches]
    session.rates.set(number)
    if session.drops is not None:
        session.drops.set(number)
    optimizer.zero_grad(set_to_none=True)
    value = 0.0
    for k, (batch, weight) in enumerate(zip(batches, group.weights(batches), strict=True)):
        with group.unsynchronised(session.model, last=k + 1 == len(batches)):
            value += _backward(session, number, batch, weight)
    value = group.mean(value)
    if math.isfinite(value):
        scale.unscale_(optimizer)
        if recipe.clip_factor is not None:
            clip_adaptively(session.model.parameters(), recipe.clip_factor)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(session.model.parameters(), recipe.clip)
        scale.step(optimizer)
        scale.update()
        if session.ema is not None:
            session.ema.update()
    return value


def _backward(session: Session, number: int, batch: Any, weight: float | None) -> float:
    work, model = session.workload, session.model

    def told(doing: str) -> AbstractContextManager[None]:
        return explained(model, f"{doing} {work.name} (step {number})", batch.args, batch.kwargs)

    with autocast(session.precision, session.device):
        with told("running the forward of"):
            output = model(*batch.args, **batch.kwargs)
        with told("computing the loss of"):
            loss = work.loss(output, batch)
            _check_loss(loss, work.name)
            if weight is not None:
                loss = loss * weight
    with told("running the backward of"):
        session.scaler.scale(loss).backward()
    return float(loss.detach().item())


def _check_loss(loss: Any, name: str) -> None:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        received = f"shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ModelError(f"computing the loss of {name}", received=received, todo="return one number, e.g. a mean")
    if not loss.requires_grad:
        raise ModelError(
            f"computing the loss of {name}",
            received="a loss that depends on no trainable weight",
            todo="compute it from the model's output, without .detach(), .item() or torch.no_grad()",
        )
