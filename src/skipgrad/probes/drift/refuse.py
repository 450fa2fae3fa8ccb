"""Refuses what drift cannot be measured of, before anything is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from skipgrad.core import BadInput, MeasureError, SkipGraph
from skipgrad.instrument.wrappers import is_sharded

DOING = "measuring drift"


def check(model: Any, graph: Any, inputs: Any, at: Any) -> None:
    if not isinstance(model, nn.Module):
        raise BadInput(DOING, received=f"a {type(model).__name__} as model", todo="pass a torch.nn.Module")
    if graph is not None and not isinstance(graph, SkipGraph):
        raise BadInput(DOING, received=f"a {type(graph).__name__} as graph", todo="pass what sg.find(...) returned")
    if not isinstance(inputs, tuple | list | Mapping):
        raise BadInput(
            DOING,
            received=f"a {type(inputs).__name__} as inputs",
            todo="pass a tuple of what the forward takes, (x,) for one tensor; or a dict of named arguments",
        )
    if at not in (None, "merges", "layers"):
        raise BadInput(DOING, received=f"at={at!r}", todo="pass 'merges', 'layers' or None")
    for kind in (torch.jit.ScriptModule, nn.DataParallel):
        if isinstance(model, kind):
            raise MeasureError(
                DOING,
                received=f"a {kind.__name__}, whose forward does not run in Python in this thread",
                todo="pass the plain module",
            )


def check_inner(model: nn.Module) -> None:
    if is_sharded(model):
        raise MeasureError(
            DOING,
            where=type(model).__name__,
            received="weights that fully_shard has cut up",
            todo="measure drift of a model that is whole on each process",
        )
    for name, p in model.named_parameters():
        if p.is_meta or isinstance(p, nn.parameter.UninitializedParameter):
            raise BadInput(
                DOING,
                where=f"the weight {name!r}",
                received="a tensor without values",
                todo="give it values first (model.to_empty and a load; one forward of a lazy module)",
            )
