"""Keeps the hooks that a user has put on a model out of a forward of ours, unless they change what it computes.

A hook that collects activations must not meet tensors without values, nor count a forward that the user did not ask
for. Hooks that the forward needs stay: those of torch's own modules (weight norm, pruning), those that belong to the
model itself, and those that hand on something else than they were given.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from skipgrad.instrument.state import Memory
from skipgrad.instrument.tensors import tensors_in

_FORWARD, _BACKWARD = ("_forward_pre_hooks", "_forward_hooks"), ("_backward_pre_hooks", "_backward_hooks")
_GLOBAL = ("_global_forward_pre_hooks", "_global_forward_hooks")
_TORCHS = ("torch.nn", "torch.distributed", "torch.ao")  # not torch.utils, whose hooks count and follow
# Methods that put something away and return nothing: a lambda that ends in one of them hands nothing on.
_COLLECTING = frozenset({"append", "add", "update", "extend", "put", "write", "print", "info", "debug", "__setitem__"})


@dataclass(frozen=True)
class _Hook:
    """A hook where it hangs: under `key` in the dictionary `box` of its owner, a module, or torch itself (None)."""

    owner: nn.Module | None
    box: str
    key: int
    call: Any

    @property
    def place(self) -> tuple[int, str, int]:
        return id(self.owner), self.box, self.key


@dataclass
class Noted:
    """What was seen of the hooks that ran: the places of those that changed something, and of those that raised."""

    changing: set[tuple[int, str, int]] = field(default_factory=set)
    failed: set[tuple[int, str, int]] = field(default_factory=set)


class UserHooks:
    """The hooks on a model's modules, and torch's global ones, as they are now.

    Args:
        model: the model.

    Attributes:
        any: whether there are hooks that may have to be kept out.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
        self._backward = [(m, box) for m in modules for box in _BACKWARD if m.__dict__.get(box)]
        hooks = [
            _Hook(m, box, k, h) for m in modules for box in _FORWARD for k, h in (m.__dict__.get(box) or {}).items()
        ]
        hooks += [_Hook(None, box, k, h) for box in _GLOBAL for k, h in _globally(box) if not _is_ours(h)]
        held: dict[int, Any] = {}  # what the model holds, objects by id
        if hooks:
            held = {id(v): v for m in modules for v in (m, *vars(m).values()) if _is_thing(v)}
        self._users = [h for h in hooks if not _is_torchs(h.call) and not _belongs(h.call, held)]
        self._suspects = [h for h in self._users if not _only_collects(h.call, pre="pre" in h.box)]
        self.any = bool(self._users or self._backward)

    @contextlib.contextmanager
    def kept_out(self, stay: Collection[tuple[int, str, int]] = ()) -> Iterator[Noted]:
        """Inside the block, in this thread, the user's hooks do not run, but for those at the places `stay`.

        What the hooks that run write to what they reach (lists, counters, objects) is put back. A backward hook would
        only wrap inputs and outputs, as no backward follows: all of them are out.
        """
        noted = Noted()
        memory = Memory(tensors=False)
        for hook in self._users:
            if hook.place in stay:
                _remember(hook.call, memory)
        kept: list[tuple[dict[str, Any], str, Any]] = []
        globally: list[tuple[dict[int, Any], int, Any, Any]] = []
        try:
            for module, box in self._backward:
                kept.append((module.__dict__, box, module.__dict__[box]))
                module.__dict__[box] = OrderedDict()
            for hook in self._users:
                here = hook.place in stay
                if hook.owner is None:
                    hung = getattr(nn.modules.module, hook.box)
                    if hook.key not in hung:  # another thread has taken it off meanwhile
                        continue
                    # The dictionary is everybody's: for other threads the hook must go on as before.
                    twin = _for_others(hook.call, _noting(hook, noted) if here else None)
                    globally.append((hung, hook.key, twin, hook.call))
                    hung[hook.key] = twin
                    continue
                attributes = hook.owner.__dict__
                if not any(a is attributes and b == hook.box for a, b, _ in kept):
                    kept.append((attributes, hook.box, attributes[hook.box]))
                    attributes[hook.box] = OrderedDict(attributes[hook.box])
                if here:
                    attributes[hook.box][hook.key] = _noting(hook, noted)
                else:
                    del attributes[hook.box][hook.key]
            yield noted
        finally:
            for attributes, box, before in reversed(kept):
                attributes[box] = before
            for hung, key, twin, call in globally:
                if hung.get(key) is twin:
                    hung[key] = call
            memory.put_back()

    def with_kin(self, places: Collection[tuple[int, str, int]]) -> set[tuple[int, str, int]]:
        """The places of some hooks, and of those that share an object with one of them.

        One of a pair may keep what the other adds.
        """
        reach = {h.place: _things(h.call) for h in self._users}
        shared = {thing for place in places for thing in reach.get(place, ())}
        return {*places, *(place for place, things in reach.items() if things & shared)}

    @property
    def suspects(self) -> set[tuple[int, str, int]]:
        """The places of the hooks that may change what the forward computes."""
        return {h.place for h in self._suspects}

    @property
    def all(self) -> set[tuple[int, str, int]]:
        """The places of all the user's forward hooks."""
        return {h.place for h in self._users}


def _globally(box: str) -> list[tuple[int, Any]]:
    """Torch's hooks for all modules, as they are now; other threads put some on and take some off."""
    return list(getattr(nn.modules.module, box).items())


def _is_ours(call: Any) -> bool:
    """Whether a hook is one by which a trace or a watch, of this thread or another, follows the calls of modules."""
    return type(getattr(call, "__self__", None)).__module__.startswith("skipgrad.")


def _for_others(call: Any, mine: Callable[..., Any] | None) -> Callable[..., Any]:
    """A global hook that is `mine` in this thread, and `call` in all others."""
    thread = threading.get_ident()

    def hook(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return call(*args, **kwargs)
        return None if mine is None else mine(*args, **kwargs)

    return hook


def _noting(hook: _Hook, noted: Noted) -> Callable[..., Any]:
    """The hook; notes when it returns something new, writes in place, or gives its module other attributes."""

    def noting(module: nn.Module, *args: Any) -> Any:
        given = list(tensors_in(args))
        versions, attributes = [t._version for t in given], dict(vars(module))
        try:
            out = hook.call(module, *args)
        except Exception:
            noted.failed.add(hook.place)
            raise
        old = args[-1] if "pre" not in hook.box else args[0]
        handed_on = out is None or out is old or (isinstance(old, tuple) and len(old) == 1 and out is old[0])
        now = vars(module)
        rebound = len(now) != len(attributes) or any(attributes.get(k, now) is not v for k, v in now.items())
        if not handed_on or [t._version for t in given] != versions or ("pre" in hook.box and rebound):
            noted.changing.add(hook.place)
        return out

    return noting


def _plain(call: Any) -> tuple[types.FunctionType | None, list[Any]]:
    """The function of a hook, None where it is not Python's; and the objects it is bound to."""
    bound: list[Any] = []
    while True:
        if isinstance(call, functools.partial):
            bound += [*call.args, *call.keywords.values()]
            call = call.func
        elif isinstance(call, types.MethodType):
            bound.append(call.__self__)
            call = call.__func__
        elif isinstance(call, types.FunctionType):
            return call, bound
        else:
            method = next((vars(c)["__call__"] for c in type(call).__mro__ if "__call__" in vars(c)), None)
            if not isinstance(method, types.FunctionType):
                return None, bound
            bound.append(call)
            call = method


def _is_torchs(call: Any) -> bool:
    function, bound = _plain(call)
    homes = [type(b).__module__ for b in bound] + ([function.__module__] if function is not None else [])
    return any(str(home).startswith(_TORCHS) for home in homes)


def _is_thing(value: Any) -> bool:
    """Whether an object is one of its own, not a value that many share."""
    shared = str | bytes | int | float | complex | type | types.ModuleType | types.FunctionType
    return value is not None and not isinstance(value, shared) and not (isinstance(value, tuple) and not value)


def _things(call: Any) -> set[int]:
    """Ids of the objects that a hook is bound to, closes over or names, but for modules."""
    function, bound = _plain(call)
    reached = [*bound, *(_reached(function) if function is not None else ())]
    return {id(v) for v in reached if _is_thing(v) and not isinstance(v, nn.Module) and not callable(v)} | {
        id(v) for v in bound if _is_thing(v) and not isinstance(v, nn.Module)
    }


def _belongs(call: Any, held: dict[int, Any]) -> bool:
    """Whether a hook is the model's own: it is bound to, or writes to, something that the model holds."""
    function, bound = _plain(call)
    reached = [v for v in _reached(function) if not isinstance(v, nn.Module)] if function is not None else []
    return any(id(v) in held for v in (*bound, *reached))


def _reached(function: types.FunctionType) -> Iterator[Any]:
    """What a function closes over, and the globals it names."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a cell that is still empty
            yield cell.cell_contents
    names = function.__code__.co_names
    yield from (function.__globals__[n] for n in names if n in function.__globals__)


def _only_collects(call: Any, *, pre: bool) -> bool:
    """Whether a hook's code shows that it hands nothing on and writes to nothing that it is given."""
    function, _ = _plain(call)
    if function is None:
        return False
    code = function.__code__
    if any(n.endswith("_") and not n.endswith("__") for n in code.co_names):
        return False  # changes a tensor in place
    steps = list(dis.get_instructions(code))
    if pre and (any(s.opname == "STORE_ATTR" for s in steps) or "setattr" in code.co_names):
        return False  # may give the module another weight
    returns = [k for k, s in enumerate(steps) if s.opname in ("RETURN_VALUE", "RETURN_CONST")]
    if code.co_flags & (0x20 | 0x80):  # generators and coroutines
        return False
    if all(_is_none(steps, k) for k in returns):
        return True
    return len(returns) == 1 and _ends_in_a_collector(steps, returns[0])


def _is_none(steps: list[dis.Instruction], k: int) -> bool:
    """Whether the k-th step returns None, and nothing else: ``return a or None`` jumps to its end with a."""
    if steps[k].is_jump_target:
        return False
    at = steps[k] if steps[k].opname == "RETURN_CONST" else steps[k - 1]
    return at.opname in ("LOAD_CONST", "RETURN_CONST") and at.argval is None


def _ends_in_a_collector(steps: list[dis.Instruction], end: int) -> bool:
    """Whether all that the code does is one call such as ``seen.append(…)``."""
    skipped = ("RESUME", "COPY_FREE_VARS", "PUSH_NULL", "MAKE_CELL", "PRECALL", "CACHE", "NOP")
    steps = [s for s in steps[: end + 1] if s.opname not in skipped]
    if len(steps) < 3 or not steps[-2].opname.startswith("CALL") or any("JUMP" in s.opname for s in steps):
        return False
    names = [s.argval for s in steps[:2] if isinstance(s.argval, str)]
    return any(n in _COLLECTING for n in names)


def _remember(call: Any, memory: Memory) -> None:
    """Remembers what a hook may write to: what it is bound to, its closure and its globals."""
    function, bound = _plain(call)
    for value in bound:
        if callable(value) and hasattr(value, "__dict__") and not isinstance(value, nn.Module):
            memory.contents(vars(value))  # an object that is called: `Memory.walk` leaves those alone
        memory.walk(value)
    if function is None:
        return
    for cell in function.__closure__ or ():
        memory.cell(cell)
    rebinds = any(s.opname == "STORE_GLOBAL" for s in dis.get_instructions(function.__code__))
    for name in function.__code__.co_names:
        if name in function.__globals__:
            value = function.__globals__[name]
            if rebinds:
                memory.undo.append(functools.partial(function.__globals__.__setitem__, name, value))
            memory.walk(value)
