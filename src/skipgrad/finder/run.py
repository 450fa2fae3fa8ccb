"""Runs a model once under a recorder, on meta tensors, else on fake ones, else for real; leaves the model as it was."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from skipgrad.core import BadInput, ModelError, SkipgradError
from skipgrad.finder.dice import DRAWS, holds_generators, states
from skipgrad.finder.modules import ModuleStack
from skipgrad.finder.recorder import Recorder, Surface
from skipgrad.finder.rules import NO_RULES, Rules
from skipgrad.finder.stand_ins import copied, in_place_of_arguments, in_place_of_weights, stand_ins
from skipgrad.finder.target import exported_paths, holds_script
from skipgrad.finder.trace import Trace
from skipgrad.instrument.faults import first_line
from skipgrad.instrument.hooks import UserHooks
from skipgrad.instrument.patch import inside
from skipgrad.instrument.state import restored
from skipgrad.instrument.tensors import describe, tensors_in

LOCK = threading.RLock()  # held while a model is traced
_TRACING: ContextVar[bool] = ContextVar("tracing", default=False)


def is_tracing() -> bool:
    """Whether the forward that is running is one of ours for a trace, with stand-ins in place of the weights."""
    return _TRACING.get()


def is_training(model: nn.Module) -> bool:
    """The mode a model is in; a frozen TorchScript module has none, and evaluates."""
    return bool(getattr(model, "training", False))


def signature(args: Any, kwargs: Any, training: bool) -> Any:
    """A key that is equal for two calls when the trace of one fits the other.

    It holds the structure of the arguments, ranks and dtypes of the tensors, flags, strings and the mode. Sizes are
    left out, and so are numbers: one may be a step count that differs at each call. Where a number does steer the
    forward, the calls that are made differ from the trace's, and the watch notices that.
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
        how: ``""`` tries meta, fake and real tensors in this order. ``"real"`` makes a real run at once. ``"foretell"``
            is for a watch, whose later runs must make the very calls of the trace: it leaves fake tensors out, as
            transformers' models ask whether they are being traced, and do other things then.
        rules: the user's own rules.

    Raises:
        ModelError: the forward raised however it was run; the message is the model's own.
    """
    # Weights, hooks and random states are the process's: traces take turns. A forward may call `find` itself.
    with LOCK:
        hooks = UserHooks(model)
        if not hooks.any:
            return _trace(model, args, kwargs, how, rules)
        return _past_hooks(hooks, lambda: _trace(model, args, kwargs, how, rules))


def _past_hooks(hooks: UserHooks, run: Callable[[], Trace]) -> Trace:
    """A trace without the user's hooks, but for those that change what the forward computes."""
    stay: set[Any] = set()
    doubtful = hooks.suspects
    while doubtful:
        with contextlib.suppress(Exception), hooks.kept_out(doubtful) as noted:
            recorded = run()
            if hooks.with_kin(noted.changing) == doubtful:
                return recorded
        stay = hooks.with_kin(noted.changing - noted.failed)
        if not noted.failed:
            break
        doubtful -= noted.failed  # the others are looked at without those that raised
    try:
        with hooks.kept_out(stay):
            return run()
    except SkipgradError:
        with hooks.kept_out(hooks.all):  # the forward may need one that seemed to need nothing
            return run()


def _trace(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], how: str, rules: Rules) -> Trace:
    tensors = list(tensors_in((args, kwargs))) + list(model.parameters()) + list(model.buffers())
    if any(t.is_nested for t in tensors):
        raise BadInput(
            f"running the forward of {type(model).__name__} to record its ops",
            received="a nested tensor, whose sizes are not numbers",
            todo="give a padded one: the skips are the same",
        )
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
            with restored(model), _quiet():
                found, unseen = run(model, args, kwargs, rules, below)
            if (
                unseen and not below
            ):  # something may have been computed where the recorder does not look: look there too
                with restored(model), _quiet():
                    deeper, _ = run(model, args, kwargs, rules, True)
                found = deeper if any(n.below for n in deeper.nodes) else found  # else it was a constant
        except SkipgradError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a user's forward raises, reported below
            where = getattr(error, "_skipgrad_where", "")
            reasons.append(f"on {kind} tensors: {type(error).__name__}: {first_line(error)}")
            failure = ModelError(
                f"running the forward of {type(model).__name__} to record its ops ({kind} tensors)",
                where=f"module {where!r}" if where else "the model's own forward",
                received=f"{describe(args, kwargs)}; it raised {type(error).__name__}: {first_line(error)}",
                todo=_advice(error, args)
                + ("; or real tensors and weights, where the forward looks at values" if only_meta else ""),
            )
            failure.__cause__ = error
            continue
        found.how = kind
        found.training = is_training(model)
        found.rules = rules
        found.signature = signature(args, kwargs, is_training(model))
        found.notes += [f"could not be traced {reason}; traced on {kind} tensors instead" for reason in reasons]
        return found
    assert failure is not None
    raise failure


_OF_INPUTS = (
    "shape",
    "size",
    "dimension",
    "expected",
    "channels",
    "dtype",
    "index out of range",
    "argument",
    "broadcast",
)


def _advice(error: Exception, args: Any) -> str:
    """What to do about what a forward raised: not everything is the inputs' fault."""
    text = str(error).lower()
    if isinstance(error, TypeError) and "required positional argument" in text:
        if any(isinstance(a, tuple | list) for a in args):
            return "give its inputs one by one (model, x, y): a tuple or a list of tensors is one input"
        return "give every input that its forward takes, by position or by name"
    if isinstance(error, RuntimeError | ValueError | IndexError | TypeError) and any(w in text for w in _OF_INPUTS):
        return "give inputs of the shape the model wants (--input on the command line)"
    return "see whether the model runs on these inputs without skipgrad; if it does, please report this"


def _is_fake(t: torch.Tensor) -> bool:
    return type(t).__name__ == "FakeTensor"


def _on_meta(model: nn.Module, args: Any, kwargs: Any, rules: Rules, below: bool) -> tuple[Trace, bool]:
    if all(t.is_meta for t in (*model.parameters(), *model.buffers(), *tensors_in((args, kwargs)))):
        return _as_it_is(model, *in_place_of_arguments(args, kwargs, copied), rules, below)
    to_meta = lambda t: copied(t) if t.is_meta else t.detach().to("meta").requires_grad_(t.requires_grad)  # noqa: E731
    stand = stand_ins(model, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta"))
    return _swapped(model, *in_place_of_arguments(args, kwargs, to_meta), stand, rules, below)


def _on_fake(model: nn.Module, args: Any, kwargs: Any, rules: Rules, below: bool) -> tuple[Trace, bool]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def to_fake(t: torch.Tensor) -> torch.Tensor:
        if t.is_meta:  # a fake tensor on the CPU, made of nothing
            return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cpu").requires_grad_(t.requires_grad)
        return t if _is_fake(t) else mode.from_tensor(t)

    with mode:
        stand = stand_ins(model, to_fake)
        return _swapped(model, *in_place_of_arguments(args, kwargs, to_fake), stand, rules, below)


def _for_real(model: nn.Module, args: Any, kwargs: Any, rules: Rules, below: bool) -> tuple[Trace, bool]:
    # Copies stand in for weights and buffers: a forward may write to them (a momentum encoder, a batch norm), and
    # writing them back would count as a change for a backward still to come.
    given = in_place_of_arguments(args, kwargs, copied)
    if holds_script(model):
        return _as_it_is(model, *given, rules, below)
    return _swapped(model, *given, stand_ins(model, torch.clone), rules, below)


def _as_it_is(model: nn.Module, args: Any, kwargs: Any, rules: Rules, below: bool) -> tuple[Trace, bool]:
    return _record(model, args, kwargs, {id(p): n for n, p in model.named_parameters()}, rules, below)


def _swapped(
    model: nn.Module, args: Any, kwargs: Any, stand: dict[int, torch.Tensor], rules: Rules, below: bool
) -> tuple[Trace, bool]:
    learned: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        learned.setdefault(id(stand.get(id(parameter), parameter)), name)
        learned.setdefault(id(parameter), name)  # a function may hold the parameter itself
    own = [*stand.values(), *model.parameters(), *_plain_tensors(model)]  # held, so that their ids stay theirs
    with in_place_of_weights(model, stand):
        return _record(model, args, kwargs, learned, rules, below, own)


def _record(
    model: nn.Module,
    args: Any,
    kwargs: Any,
    learned: dict[int, str],
    rules: Rules,
    below: bool,
    own: Iterable[torch.Tensor] = (),
) -> tuple[Trace, bool]:
    """The trace, and whether something was computed below the recorder's level."""
    owned = [*own, *model.parameters(), *_plain_tensors(model)]
    with ModuleStack(model) as stack, torch.enable_grad():
        recorder = Recorder(learned, stack, owned, rules)
        before = states()
        try:
            seen = Surface(recorder) if below else contextlib.nullcontext()
            with warnings.catch_warnings(), recorder.functions(), recorder.whole_modules(model), seen:
                warnings.simplefilter("ignore")  # the user sees them when they run the model themselves
                # The mode is entered inside the call, where a watch enters it too.
                ends = _Ends(recorder)
                with inside(model, recorder, ends):
                    model(*args, **kwargs)
                    if not ends.met:  # its class has a ``__call__`` of its own, and no forward
                        ends(_entered(model, recorder), args, kwargs)
        except Exception as error:
            error._skipgrad_where = stack.deepest  # type: ignore[attr-defined]
            raise
    found = recorder.trace
    after = states()
    # Of torch's draws those count that are made for their own sake: an op such as dropout only masks by its own.
    torchs = after[1] != before[1] and not DRAWS.isdisjoint(found.calls)
    found.drew = after[0] != before[0] or torchs or holds_generators(model)
    found.weights = weights_of(model)
    paths = exported_paths(model)
    if paths:
        for node in found.nodes:
            node.module = paths.get(node.call, node.module) if node.call else node.module
    unmet = [k for k in (*rules.ops, *rules.modules) if k not in recorder.met]
    for key in unmet:
        name = key if isinstance(key, str) else key.__name__
        found.notes.append(f"the rule for {name!r} met nothing in this forward")
    used = {p.rpartition(".")[0] for node in found.nodes for p in node.params}
    idle = [n for n, m in model.named_modules() if n not in stack.ran and n not in used]
    modules = dict(model.named_modules())
    found.unrun = tuple(n for n in idle if n and any(True for _ in modules[n].parameters(recurse=False)))
    if paths or isinstance(model, torch.fx.GraphModule):
        for node in found.nodes:
            node.below = True
    return found, recorder.unseen


class _Ends:
    """Shows the recorder what a forward gets and returns: beyond it, hooks of the model itself may stand between.

    Attributes:
        met: whether there was a forward.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.met = False
        self._recorder = recorder
        self._depth = 0

    def __call__(self, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._depth:  # a model that calls itself
            return forward(*args, **kwargs)
        self.met = True
        for tensor in tensors_in((args, kwargs)):
            self._recorder.input(tensor)
        self._depth += 1
        try:
            out = forward(*args, **kwargs)
        finally:
            self._depth -= 1
        for tensor in tensors_in(out):
            self._recorder.node_of(tensor)  # an output that no call has made is noticed, too
        return out


def _entered(model: nn.Module, recorder: Recorder) -> Callable[..., Any]:
    """A call of the model as a whole, recorded."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with recorder:
            return model(*args, **kwargs)

    return call


def weights_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the learned tensors of a model that have more than one dimension."""
    return tuple(name for name, p in model.named_parameters() if not is_lazy(p) and p.dim() > 1)


def _plain_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors a model holds beside its parameters: buffers, and attributes in which somebody keeps a constant."""
    yield from model.buffers()
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, torch.Tensor))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Makes `is_tracing` true, and keeps torch from logging shape errors, which are reported in our own words."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, token = logger.disabled, _TRACING.set(True)
    logger.disabled = True
    try:
        with torch.inference_mode(False):  # inference tensors have no version, so that writes to them would be missed
            yield
    finally:
        logger.disabled = disabled
        _TRACING.reset(token)
