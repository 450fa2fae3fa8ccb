"""`checkpointed`: which blocks of a model are computed again, for a budget of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch._functorch.config as functorch
from torch import nn

from skipgrad.core import BadInput, SkipGraph
from skipgrad.core.training import memory as read_memory
from skipgrad.instrument.wrappers import unwrap
from skipgrad.train.checkpointing.apply import Checkpointed
from skipgrad.train.checkpointing.choose import choose
from skipgrad.train.checkpointing.measure import Unit, measure, saved_bytes

DOING = "choosing what to compute again"


@dataclass(frozen=True)
class CheckpointPlan:
    """What would be computed again: plain data to read before anything is touched.

    Attributes:
        segments: paths of the blocks.
        saved: bytes that a forward saves now.
        budget: bytes that it may hold.
        predicted: bytes held at the worst moment of a backward.
        predicted_saved: bytes saved when a forward is over.
        seconds: that the blocks' forwards take.
        forward_seconds: that the outermost units' forwards take together.
        units: what was measured.
    """

    segments: tuple[str, ...]
    saved: int
    budget: float
    predicted: float
    predicted_saved: float
    seconds: float
    forward_seconds: float
    units: tuple[Unit, ...]

    def apply(self, model: nn.Module) -> Checkpointed:
        """Carries it out."""
        return Checkpointed(
            self.segments,
            saved=self.saved,
            predicted=self.predicted,
            predicted_saved=self.predicted_saved,
            seconds=self.seconds,
            forward_seconds=self.forward_seconds,
        ).start(unwrap(model))


def plan_checkpoints(
    model: nn.Module, graph: SkipGraph | None, *args: Any, memory: str | float, **kwargs: Any
) -> CheckpointPlan:
    """Measures a forward and chooses the blocks to compute again.

    Args:
        model: in the mode it is trained in.
        graph: `sg.find`'s: blocks with a short skip over them are not cut. None for any module.
        args: inputs of a forward, of the size it is trained with.
        memory: for what a forward saves, weights left out: "2GB", bytes as a number, or a share of what it saves now,
            "0.5".
        kwargs: keyword inputs.

    Raises:
        BadInput: no inputs; or a budget that no choice meets, with the least that one meets.
        ModelError: the forward raises.
    """
    if not args and not kwargs:
        raise BadInput(
            DOING, received="no inputs", todo="pass those of a forward: sg.checkpointed(model, graph, x, memory='2GB')"
        )
    units, total = measure(unwrap(model), graph, args, kwargs)
    if isinstance(memory, str):
        value, share = read_memory(memory)
        budget = value * total if share else value
    else:
        budget = float(memory)
    chosen, peak = choose(units, total, budget)
    if peak > budget:
        raise BadInput(
            DOING,
            where=f"memory = {memory}",
            received=f"a forward saves {total:,} bytes, and no choice of blocks holds less than {peak:,.0f} of them",
            todo=f"give at least '{peak / total + 0.005:.2f}' of them, a smaller batch, or a model in smaller blocks",
        )
    return CheckpointPlan(
        tuple(units[i].path for i in chosen),
        total,
        budget,
        peak,
        float(total - sum(units[i].gain for i in chosen)),
        sum(units[i].seconds for i in chosen),
        sum(u.seconds for i, u in enumerate(units) if not any(v.end > i for v in units[:i])),
        tuple(units),
    )


def checkpointed(
    model: nn.Module, graph: SkipGraph | None, *args: Any, memory: str | float, **kwargs: Any
) -> Checkpointed:
    """Activation checkpointing by skip: holds what a forward saves to a budget, for the least time.

    What each block saves and how long its forward takes is measured on these inputs; the blocks to compute again are
    chosen by dynamic programming, and run under ``torch.utils.checkpoint``. Gradients are bitwise those without. A
    model that is compiled gets PyTorch's own ``activation_memory_budget`` instead, which is a setting of the whole
    process, and holds for what is compiled from then on.

    Args:
        model: what is trained: plain, compiled or in DistributedDataParallel.
        graph: `sg.find`'s, or None.
        args: inputs of a forward, of the size it is trained with.
        memory: as in `plan_checkpoints`.
        kwargs: keyword inputs.

    Returns:
        It, in force; print it for predicted and measured bytes, ``undo()`` takes it away.

    Raises:
        BadInput: as `plan_checkpoints`.

    Paper: Chen et al., Training deep nets with sublinear memory cost, arXiv 1604.06174; optimal choices: Jain et al.,
    Checkmate, arXiv 1910.02653.
    """
    if unwrap(model) is not model and hasattr(model, "_orig_mod"):
        return _compiled(model, args, kwargs, memory)
    applied = plan_checkpoints(model, graph, *args, memory=memory, **kwargs).apply(model)
    applied.measured_saved = saved_bytes(unwrap(model), args, kwargs)
    return applied


def _compiled(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], memory: str | float) -> Checkpointed:
    total = saved_bytes(unwrap(model), args, kwargs)
    value, share = read_memory(memory) if isinstance(memory, str) else (float(memory), False)
    wanted = min(1.0, value if share else value / total)
    before = functorch.activation_memory_budget
    functorch.activation_memory_budget = wanted
    applied = Checkpointed((), saved=total, predicted=wanted * total, predicted_saved=wanted * total, share=wanted)
    applied.on_undo(lambda: setattr(functorch, "activation_memory_budget", before))
    return applied
