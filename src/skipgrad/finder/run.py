"""Runs a model once under a recorder: on meta tensors, else on fake ones, else for real; nothing is changed by it."""

from __future__ import annotations

import contextlib
import copy
import logging
import random
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from skipgrad.core import ModelError, SkipgradError
from skipgrad.finder.modules import ModuleStack
from skipgrad.finder.recorder import Recorder, Surface
from skipgrad.finder.rules import NO_RULES, Rules
from skipgrad.finder.target import exported_paths, holds_script
from skipgrad.finder.trace import Trace, describe, mapped, tensors_in

_TRACING: ContextVar[bool] = ContextVar("tracing", default=False)


def is_tracing() -> bool:
    """Whether the forward that is running is the tracer's, with stand-ins for its weights."""
    return _TRACING.get()


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


def trace(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, how: str = "", rules: Rules = NO_RULES
) -> Trace:
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
        rules: a user's own.

    Raises:
        ModelError: the forward raised however it was run; the message is the model's own.
    """
    tensors = list(tensors_in((args, kwargs))) + list(model.parameters()) + list(model.buffers())
    only_meta = any(t.is_meta for t in tensors)
    fake = any(_is_fake(t) for t in tensors)
    ways: list[tuple[str, Callable[..., tuple[Trace, bool]]]] = [
        ("meta", _on_meta),
        ("fake", _on_fake),
        ("real", _for_real),
    ]
    if fake:
        ways = [("fake", _for_real)]
    elif only_meta:
        ways = ways[:2]
    elif how:
        ways = [ways[0], ways[2]] if how == "foretell" else [ways[2]]
    below = holds_script(model)
    if below and not fake:
        ways = [("real", _for_real)]  # TorchScript's parameters cannot be swapped for stand-ins
    reasons: list[str] = []
    failure: ModelError | None = None
    for kind, run in ways:
        try:
            with _restored(model), _quiet():
                found, unseen = run(model, args, kwargs, rules, below)
            if unseen and not below:  # something was computed where the recorder does not look: look there too
                with _restored(model), _quiet():
                    found, _ = run(model, args, kwargs, rules, True)
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
        found.rules = rules
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


def _on_meta(model: nn.Module, args: Any, kwargs: Any, rules: Rules, below: bool) -> tuple[Trace, bool]:
    if all(t.is_meta for t in (*model.parameters(), *model.buffers(), *tensors_in((args, kwargs)))):
        return _record(model, args, kwargs, {id(p): n for n, p in model.named_parameters()}, rules, below)
    to_meta = lambda t: t if t.is_meta else t.detach().to("meta").requires_grad_(t.requires_grad)  # noqa: E731
    stand = _stand_ins(model, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta"))
    return _swapped(model, mapped(args, to_meta), mapped(kwargs, to_meta), stand, rules, below)


def _on_fake(model: nn.Module, args: Any, kwargs: Any, rules: Rules, below: bool) -> tuple[Trace, bool]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def to_fake(t: torch.Tensor) -> torch.Tensor:
        if t.is_meta:  # a fake tensor on the CPU, made of nothing
            return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cpu").requires_grad_(t.requires_grad)
        return t if _is_fake(t) else mode.from_tensor(t)

    with mode:
        stand = _stand_ins(model, to_fake)
        return _swapped(model, mapped(args, to_fake), mapped(kwargs, to_fake), stand, rules, below)


def _for_real(model: nn.Module, args: Any, kwargs: Any, rules: Rules, below: bool) -> tuple[Trace, bool]:
    # Copies stand in for the buffers: a batch norm's statistics may be saved for a backward still to come, and
    # writing them back would count as a change.
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()
    return _record(model, args, kwargs, {id(p): n for n, p in model.named_parameters()}, rules, below)


def _swapped(
    model: nn.Module, args: Any, kwargs: Any, stand: dict[str, torch.Tensor], rules: Rules, below: bool
) -> tuple[Trace, bool]:
    learned: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        learned.setdefault(id(stand[name]), name)
        learned.setdefault(id(parameter), name)  # a function may hold the parameter itself
    call = lambda *a, **k: torch.func.functional_call(model, stand, a, k)  # noqa: E731
    return _record(model, args, kwargs, learned, rules, below, call, stand.values())


def _record(
    model: nn.Module,
    args: Any,
    kwargs: Any,
    learned: dict[int, str],
    rules: Rules,
    below: bool,
    call: Callable[..., Any] | None = None,
    stand: Iterable[torch.Tensor] = (),
) -> tuple[Trace, bool]:
    """The trace, and whether something was computed below the recorder's level."""
    owned = [*stand, *model.parameters(), *_plain_tensors(model)]  # held, so that their ids stay theirs
    with ModuleStack(model) as stack, torch.enable_grad():
        recorder = Recorder(learned, stack, owned, rules)
        for tensor in tensors_in((args, kwargs)):
            recorder.input(tensor)
        try:
            seen = Surface() if below else contextlib.nullcontext()
            with warnings.catch_warnings(), recorder.functions(), recorder.whole_modules(model), seen:
                warnings.simplefilter("ignore")  # the user sees them when they run the model themselves
                # The mode is entered inside the call, where a watch enters it too.
                _through(model, recorder, call or model, args, kwargs)
        except Exception as error:
            error._skipgrad_where = stack.deepest  # type: ignore[attr-defined]
            raise
    found = recorder.trace
    paths = exported_paths(model)
    if paths:
        for node in found.nodes:
            node.module = paths.get(node.call, node.module) if node.call else node.module
    used = {p.rpartition(".")[0] for node in found.nodes for p in node.params}
    idle = [n for n, m in model.named_modules() if n not in stack.ran and n not in used]
    modules = dict(model.named_modules())
    found.unrun = tuple(n for n in idle if n and any(True for _ in modules[n].parameters(recurse=False)))
    found.flat = bool(paths) or below or isinstance(model, torch.fx.GraphModule)
    return found, recorder.unseen


def _plain_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors a model holds beside its parameters: buffers, and attributes in which somebody keeps a constant."""
    yield from model.buffers()
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, torch.Tensor))


def _through(model: nn.Module, recorder: Recorder, call: Callable[..., Any], args: Any, kwargs: Any) -> None:
    before = model.__dict__.get("forward")
    original = model.forward

    def forward(*a: Any, **k: Any) -> Any:
        with recorder:
            return original(*a, **k)

    model.__dict__["forward"] = forward
    try:
        with _eager():
            for tensor in tensors_in(call(*args, **kwargs)):
                recorder.node_of(tensor)  # an output that no call has made is noticed, too
    finally:
        if before is None:
            model.__dict__.pop("forward", None)
        else:
            model.__dict__["forward"] = before


def _eager() -> contextlib.AbstractContextManager[Any]:
    """Parts of the model that are compiled run as they were written: a compiler would be handed the recorder too."""
    if "torch._dynamo" in sys.modules:
        return torch.compiler.set_stance("force_eager")
    return contextlib.nullcontext()


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
    plain = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    scripted = [b for m in model.modules() if isinstance(m, torch.jit.ScriptModule) for b in m.buffers(recurse=False)]
    held = [b.clone() for b in scripted]
    state = [(m, dict(m.__dict__)) for m in plain]
    boxes = [(v, copy.copy(v)) for _, attributes in state for v in attributes.values() if _is_box(v)]
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
        for module, attributes in state:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for box, before in boxes:
            box.clear()
            box.extend(before) if isinstance(box, list) else box.update(before)
        with torch.no_grad():
            for buffer, value in zip(scripted, held, strict=True):
                buffer.copy_(value)


def _is_box(value: Any) -> bool:
    """A plain container a forward may put something into; a module's own, of tensors, parts and hooks, are such too."""
    return type(value) in (list, dict, set, OrderedDict)
