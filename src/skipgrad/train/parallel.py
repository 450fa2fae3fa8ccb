"""Several processes, started by ``torchrun``: DistributedDataParallel, or ``fully_shard`` (FSDP2).

It is PyTorch's own, a call each: Fabric would bring the same two, an extra to install, and a second way of saying
device and precision, whose results would not be bitwise those of a trial.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from skipgrad.core.errors import BadInput, ModelError, SkipgradError
from skipgrad.core.registry import nearest
from skipgrad.instrument.wrappers import unwrap
from skipgrad.train.aids.accumulate import labels, shares
from skipgrad.train.group import Group

STRATEGIES = ("ddp", "fsdp")
# What the libraries below say when another process is gone.
_LOST = ("closed by peer", "connection reset", "timed out waiting", "timeout", "broken pipe", "gloo", "nccl")


@contextmanager
def processes(strategy: str, device: str, timeout: float) -> Iterator[Group]:
    """The group that the environment tells of (``RANK``, ``WORLD_SIZE`` …), or this process alone.

    Args:
        strategy: ddp or fsdp.
        device: cpu (gloo) or cuda (nccl).
        timeout: seconds after which the others are given up.

    Raises:
        BadInput: no such strategy; or an environment that does not hold together.
    """
    if strategy not in STRATEGIES:
        raise BadInput(
            "starting processes", where="strategy", received=repr(strategy), todo=nearest(strategy, STRATEGIES)
        )
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if strategy == "fsdp" and "RANK" not in os.environ:
        raise BadInput(
            "starting processes",
            where="strategy",
            received="fsdp in a process that torchrun has not started",
            todo="start it with torchrun --nproc-per-node N -m skipgrad train …, or leave --strategy out",
        )
    if alone and strategy == "ddp":
        yield Group()
        return
    if dist.is_initialized():
        yield Several(strategy, device)
        return
    try:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=timedelta(seconds=timeout))
    except (ValueError, RuntimeError) as error:
        raise BadInput(
            "starting processes",
            where="WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT",
            received=str(error).splitlines()[0],
            todo="start it with torchrun --nproc-per-node N -m skipgrad train …",
        ) from error
    try:
        yield Several(strategy, device)
    finally:
        dist.destroy_process_group()


@contextmanager
def told_of_lost(group: Group) -> Iterator[None]:
    """An exchange that fails because another process is gone is told as that.

    Raises:
        ModelError: another process ended.
    """
    try:
        yield
    except (RuntimeError, ModelError) as error:
        text = str(error).lower()
        if group.world == 1 or not any(word in text for word in _LOST):
            raise
        raise SkipgradError(
            "training in several processes",
            where=f"process {group.rank} of {group.world}",
            received=f"another process is gone, or did not answer in time ({str(error).splitlines()[-1][:200]})",
            todo="look at what it said; the same command goes on from the last checkpoint",
        ) from error


class Several(Group):
    """The processes of the default group.

    Args:
        strategy: ddp or fsdp.
        device: where the exchange takes place.
    """

    def __init__(self, strategy: str, device: str) -> None:
        self.strategy = strategy
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._device = device

    def wrap(self, model: nn.Module) -> nn.Module:
        """In DistributedDataParallel; or with its weights cut up, block by block where it has blocks in a row."""
        if self.strategy == "ddp":
            # A remedy may leave blocks out: their weights get no gradient then.
            out = any(hasattr(module, "skipgrad_gate") for module in model.modules())
            return nn.parallel.DistributedDataParallel(model, find_unused_parameters=out)
        from torch.distributed.fsdp import fully_shard  # a second that a single process need not pay

        for module in model.modules():
            if isinstance(module, nn.ModuleList | nn.Sequential):
                for block in module:
                    if not isinstance(block, nn.ModuleList | nn.ModuleDict) and _has_depth(block):
                        fully_shard(block)
        fully_shard(model)
        return model

    def weights(self, batches: Sequence[Any]) -> list[float | None]:
        """Shares in the mean over all labels of all processes, which then average their gradients."""
        return list(shares([labels(b.target) for b in batches], self.world))

    def unsynchronised(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged with the last micro-batch only."""
        if self.strategy == "fsdp":
            model.set_requires_gradient_sync(last)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
            return nullcontext()
        return nullcontext() if last else model.no_sync()  # pyright: ignore[reportCallIssue, reportReturnType]

    def states(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
        """The whole state of both, put together from all processes."""
        if self.strategy == "ddp":
            return super().states(model, optimizer)
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights, moments = get_state_dict(model, optimizer, options=whole)
        return weights, moments

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]
    ) -> None:
        """Puts it back, each process its part; however many there were."""
        if self.strategy == "ddp":
            super().load(model, optimizer, weights, moments)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        whole = StateDictOptions(full_state_dict=True)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=whole)

    def gathered(self, value: Any) -> list[Any]:
        """Each process' value, by rank; in all of them."""
        out: list[Any] = [None] * self.world
        dist.all_gather_object(out, value)
        return out

    def mean(self, value: float) -> float:
        """The mean over the processes."""
        whole = torch.tensor([value], dtype=torch.float64, device=self._device)
        dist.all_reduce(whole)
        return float(whole) / self.world

    def any(self, flag: bool) -> bool:
        """Whether it holds in one of the processes."""
        whole = torch.tensor([int(flag)], device=self._device)
        dist.all_reduce(whole, op=dist.ReduceOp.MAX)
        return bool(whole)


def _has_depth(block: nn.Module) -> bool:
    """Whether it has weights, and parts that have."""
    own = unwrap(block)
    return any(True for _ in own.parameters()) and any(True for _ in own.children())
