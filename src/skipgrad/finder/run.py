"""Runs a model once under a recorder: on meta tensors, else on fake ones, else for real; nothing is changed by it."""

from __future__ import annotations

import contextlib
import copy
import logging
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from skipgrad.core import BadInput, ModelError, SkipgradError
from skipgrad.finder.trace import ModuleStack, Recorder, Trace, describe, tensors_in

_TRACING: ContextVar[bool] = ContextVar("tracing", default=False)


def is_tracing() -> bool:
    """Whether the forward that is running is the tracer's, with stand-ins for its weights."""
    return _TRACING.get()


def unwrap(model: Any) -> nn.Module:
    """The module a user wrote, inside ``torch.compile`` and DistributedDataParallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def signature(args: Any, kwargs: Any, training: bool) -> Any:
    """What decides whether a trace fits a call: structure, ranks and dtypes, flags; not the sizes, nor numbers.

    A number may be a step count that differs at each call. Where it steers the forward, the calls that are then
    made differ from the trace's, which is noticed.
    """
    leaves, spec = pytree.tree_flatten((args, kwargs))
    return (str(spec), tuple(map(_kind, leaves)), training)


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.dim(), str(leaf.dtype)
    if leaf is None or isinstance(leaf, bool | str):
        return leaf
    return type(leaf).__name__


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, how: str = "") -> Trace:
    """The `Trace` of one forward.

    Tries meta tensors (no memory, no arithmetic), then fake ones (they know their device and work in
    mixed company), then a real run with buffers and random state restored afterwards. Says in
    ``trace.notes`` when it had to fall back, and why.

    Args:
        model: traced in the mode it is in.
        args: of its forward.
        kwargs: of its forward.
        how: ``"meta"``, ``"fake"`` and ``"real"`` are tried in this order when empty. ``"foretell"`` is for the tensors
            of a run, whose calls the trace must foretell: without fake ones, as transformers' models ask whether
            they are being traced, and do other things then. ``"real"`` is a real run at once.

    Raises:
        ModelError: the forward raised however it was run; the message is the model's own.
    """
    tensors = list(tensors_in((args, kwargs))) + list(model.parameters()) + list(model.buffers())
    only_meta = any(t.is_meta for t in tensors)
    fake = any(_is_fake(t) for t in tensors)
    ways: list[tuple[str, Callable[..., Trace]]] = [("meta", _on_meta), ("fake", _on_fake), ("real", _for_real)]
    if fake:
        ways = [("fake", _for_real)]
    elif only_meta:
        ways = [("meta", _on_meta)]
    elif how:
        ways = [ways[0], ways[2]] if how == "foretell" else [ways[2]]
    reasons: list[str] = []
    failure: ModelError | None = None
    for kind, run in ways:
        try:
            with _restored(model), _quiet():
                found = run(model, args, kwargs)
        except SkipgradError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a user's forward raises, reported below
            where = getattr(error, "_skipgrad_where", "")
            reasons.append(f"on {kind} tensors: {type(error).__name__}: {_first_line(error)}")
            failure = ModelError(
                f"running the forward of {type(model).__name__} to record its ops ({kind} tensors)",
                where=f"module {where!r}" if where else "the model's own forward",
                received=f"{describe(args, kwargs)}; it raised {type(error).__name__}: {_first_line(error)}",
                todo="give inputs of the shape the model wants (--input on the command line)"
                + ("; or real tensors and weights, where the forward looks at values" if only_meta else ""),
            )
            failure.__cause__ = error
            continue
        found.how = kind
        found.training = model.training
        found.signature = signature(args, kwargs, model.training)
        found.notes += [f"could not be traced {reason}; traced on {kind} tensors instead" for reason in reasons]
        return found
    assert failure is not None
    raise failure


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def _is_fake(t: torch.Tensor) -> bool:
    return type(t).__name__ == "FakeTensor"


def _mapped(value: Any, fn: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return pytree.tree_map(lambda v: fn(v) if isinstance(v, torch.Tensor) else v, value)


def _stand_ins(model: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    """A stand-in for each parameter and buffer; one for each tied group."""
    made: dict[int, torch.Tensor] = {}
    out: dict[str, torch.Tensor] = {}
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        if id(tensor) not in made:
            new = fn(tensor.detach())
            made[id(tensor)] = new.requires_grad_(tensor.requires_grad)
        out[name] = made[id(tensor)]
    return out


def _on_meta(model: nn.Module, args: Any, kwargs: Any) -> Trace:
    if all(t.is_meta for t in (*model.parameters(), *model.buffers(), *tensors_in((args, kwargs)))):
        return _record(model, args, kwargs, {id(p): n for n, p in model.named_parameters()})
    to_meta = lambda t: t if t.is_meta else t.detach().to("meta").requires_grad_(t.requires_grad)  # noqa: E731
    stand = _stand_ins(model, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta"))
    return _swapped(model, _mapped(args, to_meta), _mapped(kwargs, to_meta), stand)


def _on_fake(model: nn.Module, args: Any, kwargs: Any) -> Trace:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    to_fake = lambda t: t if _is_fake(t) else mode.from_tensor(t)  # noqa: E731
    stand = _stand_ins(model, to_fake)
    with mode:
        return _swapped(model, _mapped(args, to_fake), _mapped(kwargs, to_fake), stand)


def _for_real(model: nn.Module, args: Any, kwargs: Any) -> Trace:
    # Copies stand in for the buffers: a batch norm's statistics may be saved for a backward still to come, and
    # writing them back would count as a change.
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    return _record(model, args, kwargs, {id(p): n for n, p in model.named_parameters()})


def _swapped(model: nn.Module, args: Any, kwargs: Any, stand: dict[str, torch.Tensor]) -> Trace:
    learned: dict[int, str] = {}
    for name, _ in model.named_parameters(remove_duplicate=False):
        learned.setdefault(id(stand[name]), name)
    call = lambda *a, **k: torch.func.functional_call(model, stand, a, k)  # noqa: E731
    return _record(model, args, kwargs, learned, call)


def _record(
    model: nn.Module, args: Any, kwargs: Any, learned: dict[int, str], call: Callable[..., Any] | None = None
) -> Trace:
    with ModuleStack(model) as stack, torch.enable_grad():
        recorder = Recorder(learned, stack)
        for tensor in tensors_in((args, kwargs)):
            recorder.input(tensor)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the user sees them when they run the model themselves
                # The mode is entered inside the call, where a watch enters it too.
                _through(model, recorder, call or model, args, kwargs)
        except Exception as error:
            error._skipgrad_where = stack.deepest  # type: ignore[attr-defined]
            raise
    found = recorder.trace
    used = {p.rpartition(".")[0] for node in found.nodes for p in node.params}
    idle = [n for n, m in model.named_modules() if n not in stack.ran and n not in used]
    found.unrun = tuple(n for n in idle if n and _has_weights(model, n))
    return found


def _through(model: nn.Module, recorder: Recorder, call: Callable[..., Any], args: Any, kwargs: Any) -> None:
    before = model.__dict__.get("forward")
    original = model.forward

    def forward(*a: Any, **k: Any) -> Any:
        with recorder:
            return original(*a, **k)

    model.__dict__["forward"] = forward
    try:
        call(*args, **kwargs)
    finally:
        if before is None:
            model.__dict__.pop("forward", None)
        else:
            model.__dict__["forward"] = before


def _has_weights(model: nn.Module, path: str) -> bool:
    return any(True for _ in model.get_submodule(path).parameters(recurse=False))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Marks the run as the tracer's; keeps torch from logging shape errors that are reported in our own words."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, token = logger.disabled, _TRACING.set(True)
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = disabled
        _TRACING.reset(token)


@contextlib.contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Puts attributes, buffers and random states back: a forward may cache tensors, count or draw."""
    state = [(m, dict(m.__dict__), dict(m._buffers), dict(m._parameters)) for m in model.modules()]
    boxes = [(v, copy.copy(v)) for _, attributes, _, _ in state for k, v in attributes.items() if _is_box(k, v)]
    cuda = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    drawn, numpy = random.getstate(), sys.modules.get("numpy")
    drawn_numpy = numpy.random.get_state() if numpy is not None else None
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(drawn)
        if numpy is not None:
            numpy.random.set_state(drawn_numpy)
        for module, attributes, buffers, parameters in state:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
            module._parameters.clear()
            module._parameters.update(parameters)
        for box, before in boxes:
            box.clear()
            box.extend(before) if isinstance(box, list) else box.update(before)


def _is_box(name: str, value: Any) -> bool:
    """A plain container a forward may put tensors into; torch's own (hooks, modules) are left to torch."""
    return type(value) in (list, dict, set) and name not in nn.Module().__dict__


def require_module(model: Any) -> nn.Module:
    """The module to trace.

    Raises:
        BadInput: something that is no ``torch.nn.Module``.
    """
    inner = unwrap(model)
    if not isinstance(inner, nn.Module):
        raise BadInput(
            "looking for skip connections",
            received=f"a {type(model).__name__}: {str(model)[:80]}",
            todo="pass a torch.nn.Module (a function can be wrapped in one)",
        )
    return inner
