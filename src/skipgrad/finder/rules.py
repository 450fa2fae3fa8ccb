"""A user's own rules, for what they know better than the table of ops; no need to edit the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from skipgrad.core import BadInput, Skip
from skipgrad.core.registry import nearest
from skipgrad.finder import ops

Rule = str | Callable[..., Any]


@dataclass(frozen=True)
class Rules:
    """Rules that come before the finder's own.

    Attributes:
        ops: what an op is, by its name: ``"fused_add"``, by its qualified name: ``"mylib::fused_add"``, or by the name
            of a ``torch.autograd.Function`` class, which is then one op. The value is

            - a class of the finder's table (``"add"``, ``"identity"``, ``"scaled"``, ``"slice"``, ``"pool"``,
              ``"resample"``, ``"matrix"``, ``"cat"``, ``"nonlinear"``, ``"constant"`` …);
            - the name of an op it knows, which it is like (``"silu"``, ``"layer_norm"``);
            - a function of the same arguments written in ordinary torch ops, which is run in its place while the model
              is traced: for ops that do several things at once, or cannot run on tensors without values.
        modules: the same for modules, by class or by class name: a call of such a module counts as *one* op of that
            class, with all its parameters.
        keep: has the last word on every skip found; one it says False to is left out, and a note says so.

    Raises:
        BadInput: a class or op that does not exist.

    Example:
        >>> rules = Rules(ops={"mylib::add_and_scale": "add"}, keep=lambda skip: skip.span > 1)
    """

    ops: Mapping[str, Rule] = field(default_factory=dict)
    modules: Mapping[str | type[nn.Module], str] = field(default_factory=dict)
    keep: Callable[[Skip], bool] | None = None

    def __post_init__(self) -> None:
        for what, given in (("op", self.ops), ("module", self.modules)):
            if not isinstance(given, Mapping):
                raise BadInput(
                    f"adding rules for {what}s",
                    received=f"a {type(given).__name__}",
                    todo=f"give a dict, {what} to rule",
                )
            for key, value in given.items():
                _require_known(what, key, value)
        if self.keep is not None and not callable(self.keep):
            raise BadInput(
                "adding the rule keep=", received=f"a {type(self.keep).__name__}", todo="give a function of a Skip"
            )

    def __bool__(self) -> bool:
        return bool(self.ops or self.modules or self.keep)

    def op(self, name: str, qualified: str = "") -> tuple[str, Rule] | None:
        """(key, rule) for an op, by its qualified name before its canonical one."""
        if qualified in self.ops:
            return qualified, self.ops[qualified]
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, tuple[str, Rule]]:
        """By canonical name: ``relu_``, ``torch.relu`` and ``aten::relu`` are the op relu."""
        out: dict[str, tuple[str, Rule]] = {}
        for key, rule in self.ops.items():
            name = key.rpartition("::")[2] if key.startswith("aten::") else key.removeprefix("torch.")
            out[name] = out[ops.canonical(name)] = (key, rule)
        return out

    def module(self, module: nn.Module) -> str | None:
        """The rule for a module: of the nearest class in its line of descent."""
        key = self.module_key(module)
        return None if key is None else self.modules[key]

    def module_key(self, module: nn.Module) -> str | type[nn.Module] | None:
        """What that rule is given for."""
        for cls in type(module).__mro__ if self.modules else ():
            for key in (cls, cls.__name__):
                if key in self.modules:
                    return key
        return None


NO_RULES = Rules()


def resolved(rule: str) -> tuple[str | None, str]:
    """(op it is like, class) of a rule given as text.

    >>> resolved("silu"), resolved("identity")
    (('silu', 'nonlinear'), (None, 'identity'))
    """
    if rule in ops.CLASS_OF and rule not in ops.CLASSES:
        return rule, ops.CLASS_OF[rule]
    return None, rule


def _require_known(what: str, key: Any, value: Any) -> None:
    name = key if isinstance(key, str) else getattr(key, "__name__", str(key)[:60])
    if not isinstance(key, str) and not (what == "module" and isinstance(key, type)):
        raise BadInput(
            f"adding a rule for the {what} {name!r}",
            received=f"a {type(key).__name__} as its key",
            todo="give its name" + (" or its class; a rule is for all modules of a class" if what == "module" else ""),
        )
    if what == "op" and callable(value):
        return
    if not isinstance(value, str) or (value not in ops.CLASSES and value not in ops.CLASS_OF):
        known = [*sorted(ops.CLASSES), *sorted(ops.CLASS_OF)]
        raise BadInput(
            f"adding a rule for the {what} {name!r}",
            received=repr(value),
            todo=f"give one of {', '.join(sorted(ops.CLASSES))}, or the name of a known op"
            + (" or a function in its place" if what == "op" else "")
            + (f"; {nearest(value, known)}" if isinstance(value, str) else ""),
        )
