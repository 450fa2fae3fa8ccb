"""Makes a module to trace of whatever `find` is given: a module, a wrapped or exported one, or a function."""

from __future__ import annotations

import copy
import functools
import inspect
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from skipgrad.core import BadInput, ModelError
from skipgrad.instrument.calls import Address, function_name
from skipgrad.instrument.tensors import describe, is_counted, mapped
from skipgrad.instrument.wrappers import unwrap

_DEPTH = 3  # how deep modules are looked for in what a function holds: lists of lists, objects of objects


class Called(nn.Module):
    """A function as a module: the modules and the learned tensors it holds are its own.

    Args:
        function: what the forward calls.
        held: modules and parameters by name.
    """

    def __init__(self, function: Callable[..., Any], held: Mapping[str, nn.Module | nn.Parameter]) -> None:
        super().__init__()
        self._function = function
        for name, thing in held.items():
            if isinstance(thing, nn.Module):
                self.add_module(name, thing)
            else:
                self.register_parameter(name, thing)
        modes = {m.training for m in self.children()}
        self.training = modes != {False}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def as_module(model: Any) -> nn.Module:
    """The module to trace.

    Raises:
        BadInput: nothing that can be called with tensors.
    """
    inner = unwrap(model)
    if isinstance(inner, torch.export.ExportedProgram):
        return inner.module()
    if isinstance(inner, nn.Module):
        return inner
    owner = getattr(inner, "__self__", None)
    if isinstance(inner, types.MethodType) and isinstance(owner, nn.Module):
        return _by_method(owner, inner.__func__)
    if callable(inner) and not isinstance(inner, type):
        return Called(inner, dict(_held(inner)))
    raise BadInput(
        "looking for skip connections",
        received=f"a {type(model).__name__}: {str(model)[:80]}",
        todo="pass a torch.nn.Module, an exported program, or a function that calls modules"
        + (f"; this is the class itself: build one with {model.__name__}(…)" if isinstance(model, type) else ""),
    )


def built_up(model: nn.Module, args: Any, kwargs: Any) -> nn.Module:
    """A copy whose lazy modules have their shapes, from one real call; the model itself when it has none that wait.

    Raises:
        ModelError: the call raised.
    """
    if not any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        return model
    twin = copy.deepcopy(model)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin(*mapped(args, torch.clone), **mapped(kwargs, torch.clone))
    except Exception as error:
        raise ModelError(
            f"running {type(model).__name__} once, on a copy, for its lazy modules to take their shapes",
            received=f"{describe(args, kwargs)}; it raised {type(error).__name__}: {error}",
            todo="give real tensors of the shape the model wants, or call the model once before",
        ) from error
    return twin


def name_of(model: Any) -> str:
    """The name of a model that nobody has named: that of its class, or of the function."""
    inner = unwrap(model)
    if isinstance(inner, torch.jit.ScriptModule):
        return str(cast(Any, inner).original_name)
    if isinstance(inner, nn.Module):
        return type(inner).__name__
    owner = getattr(inner, "__self__", None)
    if isinstance(inner, types.MethodType) and isinstance(owner, nn.Module):
        return type(owner).__name__ + ("" if inner.__name__ == "forward" else f".{inner.__name__}")
    name = str(getattr(inner, "__name__", None) or type(inner).__name__)
    return "function" if name == "<lambda>" else name


def holds_script(model: nn.Module) -> bool:
    """Whether a model holds TorchScript: its parameters cannot be swapped, nor can calls in it be told by module."""
    return any(isinstance(m, torch.jit.ScriptModule) for m in model.modules())


def exported_paths(model: nn.Module) -> dict[Address, str]:
    """Address of a call of an exported program → path of the module that made the call in the original model.

    Empty for a model that is no exported program.
    """
    if not isinstance(model, torch.fx.GraphModule):
        return {}
    out: dict[Address, str] = {}
    seen: Counter[str] = Counter()
    for node in model.graph.nodes:
        if node.op != "call_function" or not _makes_tensor(node.meta.get("val")):
            continue
        if not is_counted(tuple(_value(model, n) for n in node.all_input_nodes), {}):
            continue
        raw = function_name(node.target)
        stack = node.meta.get("nn_module_stack")
        if stack:
            out[Address(raw, seen[raw])] = (
                list(stack.values())[-1][0].removeprefix("L['self'].").removeprefix("L['self']")
            )
        seen[raw] += 1
    return out


def _value(model: nn.Module, node: torch.fx.Node) -> Any:
    """The value that a node of a program holds, as far as the program has it."""
    if "val" in node.meta or node.op != "get_attr":
        return node.meta.get("val")
    value: Any = model
    for name in str(node.target).split("."):
        value = getattr(value, name, None)
    return value


def _makes_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, list | tuple) and any(map(_makes_tensor, value)))


def _by_method(owner: nn.Module, function: Callable[..., Any]) -> nn.Module:
    """A module that runs another of its methods when it is called: names stay those of the module."""
    if function in (type(owner).forward, type(owner).__call__, nn.Module.__call__):
        return owner
    twin = copy.copy(owner)

    def forward(*args: Any, **kwargs: Any) -> Any:
        stands = twin.__dict__.pop("forward")  # the method may call the module itself: its forward is the class's then
        try:
            return function(twin, *args, **kwargs)
        finally:
            twin.__dict__["forward"] = stands

    twin.__dict__["forward"] = forward
    return twin


def _held(function: Any) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """Modules and parameters a function reaches: what it closes over, its globals, its arguments, its object."""
    seen: set[int] = set()
    taken: set[str] = set()
    for name, thing in _reached(function, "", 0, seen):
        safe = (name or "model").replace(".", "_").replace("<", "").replace(">", "")
        while safe in taken or hasattr(nn.Module, safe):
            safe += "_"
        taken.add(safe)
        yield safe, thing


def _reached(thing: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    if depth > _DEPTH or id(thing) in seen:
        return
    seen.add(id(thing))
    inner = unwrap(thing) if isinstance(thing, nn.Module) else thing
    if isinstance(inner, nn.Module):
        yield name, inner
        return
    if isinstance(inner, torch.Tensor):
        if isinstance(inner, nn.Parameter):
            yield name, inner
        return
    for key, value in _parts(inner):
        yield from _reached(value, f"{name}_{key}" if name else key, depth + 1, seen)


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, functools.partial):
        yield "", thing.func
        yield from ((str(i), a) for i, a in enumerate(thing.args))
        yield from thing.keywords.items()
    elif isinstance(thing, types.MethodType):
        yield "", thing.__self__
        yield "", thing.__func__
    elif inspect.isfunction(thing):
        code = thing.__code__
        for key, cell in zip(code.co_freevars, thing.__closure__ or (), strict=False):
            try:
                yield key, cell.cell_contents
            except ValueError:  # a cell that is still empty
                continue
        yield from ((str(i), d) for i, d in enumerate(thing.__defaults__ or ()))
        yield from (thing.__kwdefaults__ or {}).items()
        names = dict.fromkeys(n for c in _codes(code) for n in c.co_names)
        yield from ((n, thing.__globals__[n]) for n in names if n in thing.__globals__)
    elif isinstance(thing, Mapping):
        yield from ((str(k), v) for k, v in thing.items())
    elif isinstance(thing, list | tuple):
        yield from ((str(i), v) for i, v in enumerate(thing))
    elif not isinstance(thing, type | types.ModuleType | str | bytes):
        yield from getattr(thing, "__dict__", {}).items()
        slots = (s for c in type(thing).__mro__ for s in _listed(c.__dict__.get("__slots__", ())))
        yield from ((s, getattr(thing, s)) for s in slots if hasattr(thing, s))


def _listed(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions written inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
