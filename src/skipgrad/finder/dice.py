"""Random draws as one wants them, while a forward is traced: low, high, or of a seed, in this thread only.

A forward that leaves out blocks at random asks a generator and branches on the answer. What it can run is seen by
giving the answers. The generators themselves are the process's, and other threads draw from them, so they are left
alone: the functions that draw are stood in for.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from skipgrad.instrument.calls import function_name

LOW, HIGH = 1e-6, 1 - 1e-6
_PATIENCE = 1000  # so many draws are loaded; a loop that waits for another number then ends
# Functions of torch that draw, and those of them that are drawn anew here.
DRAWS = frozenset(
    """
    rand rand_like uniform_ bernoulli bernoulli_ randint randint_like random_ randn randn_like normal normal_ randperm
    multinomial exponential_ geometric_ cauchy_ log_normal_
    """.split()  # noqa: SIM905
)
_PYTHON = """
    random uniform randint randrange choice choices sample shuffle getrandbits gauss normalvariate
""".split()  # noqa: SIM905
_NUMPY = """
    rand random random_sample uniform randint choice binomial permutation shuffle randn normal standard_normal beta
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Draws:
    """How random numbers come out: all at a quantile `at`, or where that is None, from a generator with this seed."""

    at: float | None = None
    seed: int = 0


def states() -> tuple[Any, bytes]:
    """The states of the process's generators, Python's and numpy's, and torch's: other ones say that somebody drew."""
    name, keys, *rest = np.random.get_state()
    with _disable_current_modes():  # a user may look for skips in a fake mode of theirs
        torchs = torch.get_rng_state().numpy().tobytes()
    return (random.getstate(), name, keys.tobytes(), *rest), torchs  # type: ignore[union-attr]


def holds_generators(model: nn.Module) -> bool:
    """Whether a model has generators of its own, whose draws the process's generators do not show."""
    return any(True for _ in _held(model))


def _held(model: nn.Module) -> Iterator[Any]:
    kinds = (random.Random, torch.Generator, np.random.Generator, np.random.RandomState)
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, kinds))


@contextlib.contextmanager
def loaded(model: nn.Module, draws: Draws) -> Iterator[None]:
    """Inside the block, what this thread draws comes out as `draws` says; the model's generators start at a seed."""
    with contextlib.ExitStack() as stack:
        for generator in _held(model):
            stack.enter_context(_seeded(generator, draws.seed))
        stack.enter_context(_stood_in(_python(draws) | _numpy(draws), _homes(model)))
        stack.enter_context(_Torch(draws))
        yield


@contextlib.contextmanager
def _seeded(generator: Any, seed: int) -> Iterator[None]:
    if isinstance(generator, random.Random):
        before: Any = generator.getstate()
        generator.seed(seed)
        back: Callable[[Any], Any] = generator.setstate
    elif isinstance(generator, torch.Generator):
        before, back = generator.get_state(), generator.set_state
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.RandomState):
        before, back = generator.get_state(), generator.set_state
        generator.seed(seed)
    else:
        bits = generator.bit_generator
        before, back = bits.state, lambda state: setattr(bits, "state", state)
        bits.state = type(bits)(seed).state
    try:
        yield
    finally:
        back(before)


def _homes(model: nn.Module) -> list[dict[str, Any]]:
    """Where the functions that draw are looked up: in their own modules, and in those that the model's classes are in.

    There they may have been imported by name.
    """
    names = {c.__module__ for m in model.modules() for c in type(m).__mro__ if not c.__module__.startswith("torch.")}
    modules = (sys.modules.get(name) for name in sorted(names - {"builtins"}))
    return [vars(m) for m in (random, np.random, *modules) if isinstance(m, types.ModuleType)]


@contextlib.contextmanager
def _stood_in(functions: dict[Any, Callable[..., Any]], homes: list[dict[str, Any]]) -> Iterator[None]:
    """Inside the block, calls of some functions in this thread go to others; `functions` has pairs of them."""
    thread = threading.get_ident()

    def here(before: Callable[..., Any], mine: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *a, **k: (mine if threading.get_ident() == thread else before)(*a, **k)

    twins = {id(before): (before, here(before, mine)) for before, mine in functions.items()}
    put: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for home in homes:
            for name, value in list(home.items()):
                if id(value) in twins:
                    put.append((home, name, value))
                    home[name] = twins[id(value)][1]
        yield
    finally:
        for home, name, value in reversed(put):
            home[name] = value


class _Loaded(random.Random):
    """Python's generator; the first thousand numbers are those that are wanted."""

    wanted: float | None = None
    _drawn = 0

    def random(self) -> float:
        self._drawn += 1
        return super().random() if self.wanted is None or self._drawn > _PATIENCE else self.wanted

    def _randbelow(self, n: int) -> int:
        return min(int(self.random() * n), n - 1)


def _python(draws: Draws) -> dict[Any, Callable[..., Any]]:
    mine = _Loaded(draws.seed)
    mine.wanted = draws.at
    return {getattr(random, name): getattr(mine, name) for name in _PYTHON}


def _numpy(draws: Draws) -> dict[Any, Callable[..., Any]]:
    seeded = np.random.RandomState(draws.seed)
    out = {getattr(np.random, name): getattr(seeded, name) for name in _NUMPY}
    out[np.random.ranf] = out[np.random.sample] = seeded.random_sample
    at = draws.at
    if at is None:
        return out

    def full(low: float, high: float, size: Any) -> Any:
        value = low + (high - low) * at
        return value if size is None else np.full(size, value)

    def whole(low: Any, high: Any = None, size: Any = None, dtype: Any = int) -> Any:
        low, high = (0, low) if high is None else (low, high)
        value = np.floor(low + (np.asarray(high) - low) * at).astype(dtype)
        return value[()] if size is None else np.full(size, value, dtype)

    def choice(a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
        if size is not None:
            return seeded.choice(a, size, replace, p)
        many = a if isinstance(a, int | np.integer) else len(a)
        k = min(int(at * many), many - 1) if p is None else int(np.searchsorted(np.cumsum(p), at))
        return k if isinstance(a, int | np.integer) else a[k]

    for name in ("random", "random_sample", "ranf", "sample"):
        out[getattr(np.random, name)] = lambda size=None: full(0.0, 1.0, size)
    out[np.random.rand] = lambda *size: full(0.0, 1.0, size or None)
    out[np.random.uniform] = lambda low=0.0, high=1.0, size=None: full(low, high, size)
    out[np.random.binomial] = lambda n, p, size=None: full(n if at < p else 0, n if at < p else 0, size)
    out[np.random.randint], out[np.random.choice] = whole, choice
    return out


class _Torch(TorchFunctionMode):
    """Torch's draws; those without values (meta and fake tensors) are left alone."""

    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self._draws = draws
        self._generator = torch.Generator().manual_seed(draws.seed)
        self._drawn = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        if name not in DRAWS:
            return func(*args, **kwargs)
        if name in ("randperm", "multinomial") and "generator" not in kwargs and "device" not in kwargs:
            return func(*args, **kwargs, generator=self._generator)
        chances = args[0] if name == "bernoulli" else None
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and not out.is_meta and not isinstance(out, FakeTensor):
            with torch.no_grad():
                drawn = self._drawn_as(name, out, chances, args, kwargs)
                if drawn is not None:
                    out.copy_(drawn)
        return out

    def _drawn_as(self, name: str, out: Tensor, chances: Tensor | None, args: Any, kwargs: Any) -> Tensor | None:
        """What should have come out; None where it is left as it is."""
        self._drawn += 1
        at = self._draws.at if self._drawn <= _PATIENCE else None
        if at is None:
            u = torch.rand(out.shape, generator=self._generator, dtype=torch.float64)
        else:
            u = torch.full(out.shape, at, dtype=torch.float64)
        u = u.to(out.device)
        numbers = [a for a in args if isinstance(a, int | float) and not isinstance(a, bool)]
        if name in ("rand", "rand_like"):
            return u
        if name == "uniform_":
            low = kwargs.get("from", numbers[0] if numbers else 0.0)
            high = kwargs.get("to", numbers[1] if len(numbers) > 1 else 1.0)
            return low + (high - low) * u
        if name in ("bernoulli", "bernoulli_"):
            p = kwargs.get("p", args[1] if len(args) > 1 else chances if chances is not None else 0.5)
            return u < p
        if name in ("randint", "randint_like", "random_"):
            low, high = kwargs.get("low", kwargs.get("from", 0)), kwargs.get("high", kwargs.get("to"))
            if len(numbers) > 1:
                low, high = numbers[:2]
            elif numbers:
                high = numbers[0] if high is None else high
            return None if high is None else (low + (high - low) * u).floor()
        if name in ("randn", "randn_like") and at is not None:
            return 4 * (u - 0.5)
        return None
