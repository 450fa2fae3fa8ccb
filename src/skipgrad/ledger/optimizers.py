"""The optimizers whose steps a watch counts, in whatever they are wrapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from skipgrad.core import BadInput

_DEPTH = 3  # wrappers inside one another


class Optimizers:
    """One optimizer, or several that step after the same backward.

    A wrapper that has no hooks of torch's (Lookahead, a schedule, Opacus' optimizer), or that steps in two halves
    (SAM), steps an optimizer inside it, whose hooks tell. Of steps inside one another the outermost counts.

    Args:
        given: an optimizer, a wrapper with one inside it, or a list of them.

    Raises:
        BadInput: there is no optimizer in it.
    """

    def __init__(self, given: Any) -> None:
        self._all = list(dict.fromkeys(_in(given, 0)))
        self._hooks: list[Any] = []
        self._stepping: list[Any] = []  # optimizers whose step has begun and not ended, outermost first
        if not self._all:
            raise BadInput(
                "watching a model",
                received=f"a {type(given).__name__} as optimizer, with no torch.optim.Optimizer in it",
                todo="pass what steps the weights, a list of optimizers, or none (each backward is a step then)",
            )
        several = [g for g in given if any(True for _ in _in(g, 0))] if isinstance(given, list | tuple) else []
        # Of several that step one after the other the last one's step ends the training step.
        self._last = next(_in(several[-1], 0)) if len(several) > 1 else None
        self._begun = False

    @property
    def rate(self) -> float:
        """The learning rate of the first group."""
        return float(self._all[0].param_groups[0].get("lr") or 0.0)

    @property
    def grad_scale(self) -> Any:
        """The factor that a fused step divides out of the gradients itself; None when there is none."""
        return getattr(self._all[0], "grad_scale", None)

    def follow(self, before: Callable[[bool], None], after: Callable[[], None]) -> None:
        """Calls `before` (with whether it was given a closure) and `after` around each training step."""

        def begins(optimizer: Any, args: Any, kwargs: Any) -> None:
            if optimizer in self._stepping:  # an error broke its last step off, which no hook tells
                del self._stepping[self._stepping.index(optimizer) :]
                self._begun = self._begun and bool(self._stepping)
            self._stepping.append(optimizer)
            if len(self._stepping) == 1 and not self._begun:
                self._begun = True
                before(_has_closure(args, kwargs))

        def ends(optimizer: Any, *_: Any) -> None:
            if optimizer in self._stepping:
                del self._stepping[self._stepping.index(optimizer) :]
            if not self._stepping and (self._last is None or optimizer is self._last):
                self._begun = False
                after()

        for optimizer in self._all:
            self._hooks += [optimizer.register_step_pre_hook(begins), optimizer.register_step_post_hook(ends)]

    def leave(self) -> None:
        """Takes the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _in(value: Any, depth: int) -> Iterator[Any]:
    """The optimizers in a value that have torch's hooks."""
    if isinstance(value, list | tuple):
        for v in value:
            yield from _in(v, depth)
        return
    if isinstance(value, torch.optim.Optimizer):
        if hasattr(value, "_optimizer_step_pre_hooks"):
            yield value
    elif hasattr(value, "register_step_pre_hook") and hasattr(value, "register_step_post_hook"):
        yield value  # stands in for an optimizer, and says itself when a step begins and ends
        return
    if depth < _DEPTH and hasattr(value, "__dict__"):
        for v in list(vars(value).values()):
            if isinstance(v, torch.optim.Optimizer | list | tuple) or _looks_like_one(v):
                yield from _in(v, depth + 1)


def _looks_like_one(value: Any) -> bool:
    return hasattr(value, "__dict__") and hasattr(value, "step") and hasattr(value, "zero_grad")


def _has_closure(args: Any, kwargs: Any) -> bool:
    """Whether ``step`` was given a closure; the optimizer itself is the first of its arguments."""
    given = args[1] if len(args) > 1 else kwargs.get("closure")
    return given is not None
