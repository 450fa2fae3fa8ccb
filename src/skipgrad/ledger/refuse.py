"""What cannot be measured, said before it is tried."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from skipgrad.core import BadInput, MeasureError, SkipGraph
from skipgrad.instrument.wrappers import strip_call, unwrap


def check_arguments(model: Any, graph: Any, every: Any) -> None:
    """Raises for arguments of the wrong kind, and for models that cannot be measured.

    Raises:
        BadInput: the former.
        MeasureError: the latter.
    """
    if isinstance(model, torch.export.ExportedProgram):
        raise MeasureError(
            "watching a model",
            received="an ExportedProgram, which is not called itself",
            todo="keep what program.module() returns, and watch and call that",
        )
    if not isinstance(model, nn.Module):
        raise BadInput(
            "watching a model", received=f"a {type(model).__name__}", todo="pass the torch.nn.Module you call"
        )
    if graph is not None and not isinstance(graph, SkipGraph):
        raise BadInput(
            "watching a model",
            received=f"a {type(graph).__name__} as graph",
            todo="pass what sg.find(...) returned",
        )
    if graph is not None and graph.skips and not _fits(model, graph):
        raise MeasureError(
            f"watching {type(unwrap(model)).__name__}",
            received=f"a graph of other skips ({', '.join(s.name for s in graph.skips[:4])} …)",
            todo="pass sg.find(model, …) of this very model",
        )
    if not isinstance(every, int) or every < 1:
        raise BadInput("watching a model", received=f"every={every!r}", todo="pass a whole number from 1 on")
    if isinstance(model, torch.jit.ScriptModule):
        raise MeasureError(
            "watching a model",
            received=f"a TorchScript program ({model.original_name}): its calls are not Python's, and cannot be tapped",
            todo="watch the module it was made from",
        )
    if isinstance(model, nn.DataParallel):
        raise MeasureError(
            "watching a model",
            received="a DataParallel, whose replicas run in threads of their own",
            todo="watch the plain module (DistributedDataParallel is fine)",
        )


def _fits(model: nn.Module, graph: SkipGraph) -> bool:
    """Whether the weights of any of a graph's branches are the model's."""
    paths = {name for name, _ in nn.Module.named_modules(unwrap(model))}
    return any(strip_call(p) in paths for s in graph.skips for branch in s.branches for p in branch)


def check_budget(budget: Any) -> None:
    """Raises for a share of the time that is none.

    Raises:
        BadInput: that.
    """
    if budget is None or (isinstance(budget, float | int) and not isinstance(budget, bool) and 0 < budget <= 1):
        return
    raise BadInput(
        "watching a model",
        received=f"budget={budget!r}",
        todo="pass the share of the time that measuring may cost (0.01 is one per cent), or None to measure every step",
    )


def check_steps(steps: Any) -> None:
    """Raises for a number of planned steps that is none.

    Raises:
        BadInput: that.
    """
    if not isinstance(steps, int) or steps < 0:
        raise BadInput(
            "watching a model",
            received=f"steps={steps!r}",
            todo="pass how many steps you mean to make, or leave it out",
        )


def check_switch(name: str, value: Any) -> None:
    """Raises for an argument that is neither True nor False.

    Raises:
        BadInput: that.
    """
    if not isinstance(value, bool):
        raise BadInput("watching a model", received=f"{name}={value!r}", todo="pass True or False")


def scripted(model: nn.Module) -> list[str]:
    """Paths of the TorchScript programs in a model."""
    return [name for name, m in model.named_modules() if isinstance(m, torch.jit.ScriptModule)]


def other_transform() -> str:
    """What else than plain autograd is at work on this forward, if anything."""
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return "torch.func (grad, vmap)"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return "torch.jit.trace"
    return "torch.export" if torch.compiler.is_exporting() else ""
