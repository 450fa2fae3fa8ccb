"""Runs a model's forward once with cuts in it, and leaves buffers, attributes and random states as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core import BadInput, MeasureError, SkipGraph
from skipgrad.finder import Found, found_for
from skipgrad.instrument.patch import inside
from skipgrad.instrument.state import eagerly, kept
from skipgrad.instrument.tensors import mapped
from skipgrad.instrument.wrappers import unwrap
from skipgrad.probes.spectrum.mode import CutMode
from skipgrad.probes.spectrum.places import CutPlaces, make_places

DOING = "measuring the path spectrum"


class CutForward:
    """One forward with cuts in it, ready for as many backwards as are wanted.

    Attributes:
        found: the trace that the places were planned on.
        places: where the cuts are.
        mode: the mode that made the cuts; it holds them and the fork.
        loss: the scalar that backwards start from.
        notes: sentences on what was surprising.
    """

    def __init__(self, found: Found, places: CutPlaces, mode: CutMode, loss: Tensor, notes: list[str]) -> None:
        self.found, self.places, self.mode, self.loss, self.notes = found, places, mode, loss, notes
        self._last: tuple[str, bool] = ("", False)

    def last_layer(self, name: str, model: nn.Module) -> None:
        """Takes down whether the weight of the last layer is zero, which stops the gradient of all others."""
        modules = dict(model.named_modules())
        weight = getattr(modules.get(name.split("#")[0]), "weight", None)
        self._last = (name, isinstance(weight, Tensor) and not bool(weight.any()))

    def zeros(self) -> str:
        """Why the gradient may be zero, as the end of a sentence."""
        name, zero = self._last
        if zero:
            return (
                f", as the last layer ({name}) starts at zero and lets none through yet; measure again after some steps"
            )
        return "; branches or a head that start at zero do that, and wake up within some steps"


@contextlib.contextmanager
def forward(
    model: nn.Module,
    graph: SkipGraph,
    inputs: Any,
    loss_fn: Callable[[Any], Tensor],
    at: str | None,
    *,
    rest: bool = False,
) -> Iterator[CutForward]:
    """Runs the model's forward with cuts in it. The model is put back as it was when the context is left."""
    check_arguments(model, graph, inputs)
    if at is not None:
        graph[at]  # raises for a name that is none
    inner = unwrap(model)
    args, kwargs = ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})
    notes: list[str] = []
    with kept(inner), eagerly(), torch.enable_grad():
        for how in ("", "real"):  # a forward that does not keep to its trace may look at values, which a real run has
            found = found_for(graph, inner, args, kwargs, how)
            only = {s.name for s in graph.skips}
            lost = only - found.matches.keys()
            if (lost and not how) or (at is not None and at not in found.matches):
                raise MeasureError(
                    DOING,
                    where=type(inner).__name__,
                    received=f"a graph of other skips ({', '.join(sorted(lost)[:4])} …)",
                    todo="pass sg.find(model, …) of this very model",
                )
            places = make_places(found, only | (found.matches.keys() if how else set()), at, rest=rest)
            mode = CutMode(places)
            with kept(inner):
                out = _call(inner, mode, args, kwargs)
            if mode.kept():
                break
            notes.append("the forward made other calls than its trace; traced anew, all skips of the new trace count")
        else:
            raise MeasureError(
                DOING,
                where=type(inner).__name__,
                received="a forward that makes other calls at each run, or in another order",
                todo="fix what it depends on (a random depth, say), so that two runs do the same",
            )
        loss = loss_fn(out)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            received = f"{tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise BadInput(
                DOING, where="loss_fn", received=received, todo="return one number: loss_fn(output) → scalar tensor"
            )
        if not loss.requires_grad:
            raise MeasureError(
                DOING,
                where="loss_fn",
                received="a loss that requires no gradient",
                todo="let it depend on the model's output, and the output on weights that require grad",
            )
        if mode.fork is None:
            raise MeasureError(
                DOING,
                where=f"the fork of skip {places.at!r}",
                received="a forward that never used it",
                todo="choose another skip with at=",
            )
        run = CutForward(found, places, mode, loss, notes)
        if graph.layers:
            run.last_layer(graph.layers[-1].name, inner)
        yield run


def check_arguments(model: Any, graph: Any, inputs: Any) -> None:
    """Raises for arguments of the wrong kind."""
    if not isinstance(model, nn.Module):
        raise BadInput(DOING, received=f"a {type(model).__name__} as model", todo="pass a torch.nn.Module")
    if not isinstance(graph, SkipGraph):
        raise BadInput(DOING, received=f"a {type(graph).__name__} as graph", todo="pass what sg.find(...) returned")
    if not isinstance(inputs, tuple | list | Mapping):
        raise BadInput(
            DOING,
            received=f"a {type(inputs).__name__} as inputs",
            todo="pass a tuple of what the forward takes, (x,) for one tensor; or a dict of named arguments",
        )
    for kind in (torch.jit.ScriptModule, nn.DataParallel):
        if isinstance(model, kind):
            raise MeasureError(
                DOING,
                received=f"a {kind.__name__}, whose forward does not run in Python in this thread",
                todo="pass the plain module",
            )


def _call(model: nn.Module, mode: CutMode, args: Any, kwargs: Any) -> Any:
    """Calls the model with the mode entered in its forward, on inputs that require grad."""
    args, kwargs = mapped((args, kwargs), _input)
    with inside(model, mode):
        return model(*args, **kwargs)


def _input(x: Tensor) -> Tensor:
    """A copy of an input: it requires grad in case it is the fork, and is no leaf in case it is changed in place."""
    if not (x.is_floating_point() or x.is_complex()):
        return x
    return x.detach().requires_grad_().clone()
