"""Gradients accumulated over micro-batches, weighted so that the sum is the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from skipgrad.core.errors import BadInput

IGNORED = -100  # what PyTorch's losses leave out


def labels(target: Any, ignore: int = IGNORED) -> int:
    """How many labels a mean loss is a mean of: class numbers that are not ``ignore``, else samples."""
    if isinstance(target, Tensor) and target.dtype == torch.long:
        return int((target != ignore).sum())
    return len(target) if hasattr(target, "__len__") else 1


def shares(counts: Sequence[int], world: int = 1) -> list[float]:
    """What each micro-batch's mean loss counts for in the mean over all of them.

    nᵢ / Σn, so that uneven last micro-batches and ignored labels weigh what they should. With several processes,
    whose gradients are averaged, the sum is over all of them, and the shares are multiplied by their number; this is a
    collective call then.

    Raises:
        BadInput: there is no label in any of them.
    """
    total = sum(counts)
    if world > 1:
        whole = torch.tensor([total], dtype=torch.float64)
        dist.all_reduce(whole)
        total = int(whole)
    if not total:
        raise BadInput(
            "accumulating gradients",
            received=f"{len(counts)} micro-batches without a label in them",
            todo="give batches in which some labels are not ignored",
        )
    return [world * n / total for n in counts]


class Accumulate:
    """One optimizer step over several micro-batches: one zeroing, one clipping, one step.

    The gradient is that of the mean over all labels of the step, whatever the micro-batches' sizes. In
    DistributedDataParallel gradients are exchanged once, with the last micro-batch.

    Args:
        model: what is trained.
        optimizer: of its weights.
        clip: largest norm of the whole gradient; None for no clipping.
        count: how many labels a micro-batch's loss is a mean of; ``batch[-1]``'s class numbers that are not −100, or
            samples, when not given.

    Example:
        >>> step = Accumulate(net, optimizer, clip=1.0)                              # doctest: +SKIP
        >>> for window in itertools.batched(loader, 4):                              # doctest: +SKIP
        ...     loss = step(window, lambda batch: loss_fn(net(batch[0]), batch[1]))
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float | None = None,
        count: Callable[[Any], int] | None = None,
    ) -> None:
        self._model, self._optimizer, self._clip = model, optimizer, clip
        self._count = count or (lambda batch: labels(batch[-1]))

    def __call__(self, batches: Sequence[Any], loss: Callable[[Any], Tensor]) -> float:
        """Steps; returns the mean loss over all labels of this process.

        Args:
            batches: the micro-batches of one step; the last one may be smaller.
            loss: the mean loss of one of them.

        Raises:
            BadInput: no micro-batch, or none with a label.
        """
        batches = list(batches)
        parallel = isinstance(self._model, nn.parallel.DistributedDataParallel)
        world = dist.get_world_size() if parallel else 1
        weights = shares([self._count(b) for b in batches], world)
        self._optimizer.zero_grad(set_to_none=True)
        mean = 0.0
        for number, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
            with unsynchronised(self._model, last=number + 1 == len(batches)):
                part = loss(batch) * weight
                part.backward()
            mean += float(part.detach())
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._optimizer.step()
        return mean


def unsynchronised(model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Gradients of all but the last micro-batch stay in their process."""
    if not last and isinstance(model, nn.parallel.DistributedDataParallel):
        return model.no_sync()
    return nullcontext()
