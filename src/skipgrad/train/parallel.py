"""Several processes, started by ``torchrun`` or ``srun``: Lightning Fabric's DDP, or FSDP2.

Fabric finds its place among the processes, starts the exchange, chooses the device, wraps the model and holds the
exchange back between micro-batches. One process needs none of it: importing Fabric takes longer than PyTorch itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch import nn

from skipgrad.core.errors import BadInput, ModelError, SkipgradError
from skipgrad.core.registry import nearest
from skipgrad.instrument.wrappers import unwrap
from skipgrad.train.aids.accumulate import labels, shares
from skipgrad.train.device import device_of
from skipgrad.train.group import Group

if TYPE_CHECKING:
    from lightning.fabric import Fabric

STRATEGIES = ("ddp", "fsdp")
DOING = "starting processes"
START = "start it with torchrun --nproc-per-node N -m skipgrad train …, or srun"
# What the libraries below say when another process is gone.
_LOST = ("closed by peer", "connection reset", "timed out waiting", "timeout", "broken pipe", "gloo", "nccl")


@contextmanager
def processes(strategy: str, device: str, timeout: float) -> Iterator[Group]:
    """The group that the environment tells of (``torchrun``'s variables, or ``srun``'s), or this process alone.

    Args:
        strategy: ddp or fsdp.
        device: cpu (gloo) or cuda (nccl); each process of a machine gets a GPU of its own.
        timeout: seconds after which the others are given up.

    Raises:
        BadInput: no such strategy or device; Fabric is not installed; or an environment that does not hold together.
    """
    if strategy not in STRATEGIES:
        raise BadInput(DOING, where="strategy", received=repr(strategy), todo=nearest(strategy, STRATEGIES))
    torchrun, world, nodes = _environment()
    if strategy == "fsdp" and not torchrun and world == 1:
        raise BadInput(
            DOING,
            where="strategy",
            received="fsdp in a process that torchrun has not started",
            todo=f"{START}, or leave --strategy out",
        )
    if world == 1 and strategy == "ddp":
        yield Group()
        return
    kind = device_of(device).type
    running = dist.is_initialized()
    try:
        fabric = _fabric(strategy, kind, timeout, torchrun, world, nodes)
        fabric.launch()
    except ModuleNotFoundError as error:
        raise BadInput(
            DOING, received="Lightning Fabric is not installed", todo="pip install 'skipgrad[train]'"
        ) from error
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadInput(
            DOING,
            where="LOCAL_RANK, RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT",
            received=(str(error).splitlines() or [type(error).__name__])[0],
            todo=START,
        ) from error
    try:
        yield Several(strategy, fabric)
    finally:
        if not running:
            dist.destroy_process_group()


def _environment() -> tuple[bool, int, int]:
    """Whether torchrun has started this process; how many there are, and on how many machines."""
    env = os.environ
    try:
        if "RANK" in env or "SLURM_STEP_ID" not in env:
            world = int(env.get("WORLD_SIZE", "1"))
            return "RANK" in env, world, max(1, world // int(env.get("LOCAL_WORLD_SIZE", world)))
        return False, int(env.get("SLURM_NTASKS", "1")), int(env.get("SLURM_NNODES", "1"))
    except ValueError as error:
        raise BadInput(DOING, where="WORLD_SIZE", received=str(error), todo=START) from error


def _fabric(strategy: str, kind: str, timeout: float, torchrun: bool, world: int, nodes: int) -> Fabric:
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.fabric.strategies.ddp import DDPStrategy
    from lightning.fabric.strategies.model_parallel import ModelParallelStrategy

    class Ddp(DDPStrategy):
        def setup_module(self, module: nn.Module) -> Any:
            # A remedy may leave blocks out: their weights get no gradient then.
            if any(hasattr(part, "skipgrad_gate") for part in module.modules()):
                self._ddp_kwargs["find_unused_parameters"] = True
            return super().setup_module(module)

    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # each process says that it is there
    limit = timedelta(seconds=timeout)
    way = Ddp(timeout=limit) if strategy == "ddp" else ModelParallelStrategy(_cut, world, 1, timeout=limit)
    place = TorchElasticEnvironment() if torchrun else SLURMEnvironment()
    return Fabric(accelerator=kind, devices=world // nodes, num_nodes=nodes, strategy=way, plugins=[place])


def _cut(model: nn.Module, mesh: Any) -> nn.Module:
    """Spreads the weights, block by block where the model has blocks in a row."""
    from torch.distributed.fsdp import fully_shard  # a second that a single process need not pay

    over = mesh["data_parallel"]
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            for block in module:
                if not isinstance(block, nn.ModuleList | nn.ModuleDict) and _has_depth(block):
                    fully_shard(block, mesh=over)
    fully_shard(model, mesh=over)
    return model


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
        fabric: launched.
    """

    def __init__(self, strategy: str, fabric: Fabric) -> None:
        self.strategy, self._fabric = strategy, fabric
        self.rank, self.world = fabric.global_rank, fabric.world_size
        self._set_up: Any = None

    def device(self, name: str) -> torch.device:
        """The one that is this process' own."""
        return self._fabric.device

    def wrap(self, model: nn.Module) -> nn.Module:
        """In DistributedDataParallel; or with its weights cut up, block by block where it has blocks in a row."""
        # Compiled inside, as it was watched; what Fabric's own wrapper adds, a trial does itself.
        self._set_up = self._fabric.setup_module(model, move_to_device=False, _reapply_compile=False)
        return self._set_up._forward_module

    def weights(self, batches: Sequence[Any]) -> list[float | None]:
        """Shares in the mean over all labels of all processes, which then average their gradients."""
        return list(shares([labels(b.target) for b in batches], self.world))

    def unsynchronised(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged with the last micro-batch only."""
        return self._fabric.no_backward_sync(self._set_up, enabled=not last)

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
        return float(self._reduced(value, "mean"))

    def any(self, flag: bool) -> bool:
        """Whether it holds in one of the processes."""
        return bool(self._reduced(float(flag), "max"))

    def _reduced(self, value: float, how: str) -> torch.Tensor:
        whole = torch.tensor([value], dtype=torch.float64, device=self._fabric.device)
        return self._fabric.all_reduce(whole, reduce_op=how)  # pyright: ignore[reportReturnType]


def _has_depth(block: nn.Module) -> bool:
    """Whether it has weights, and parts that have."""
    own = unwrap(block)
    return any(True for _ in own.parameters()) and any(True for _ in own.children())
