"""What `outside.py` does with one model of somebody else's: found, and trained three steps watched and unwatched.

`examine` runs in a local process, one module of a checkout at a time; `judged` is one model.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import io
import random
import resource
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from sweep_job import prepare as prepare  # the pool asks a job's module for it
from torch import nn

# What became of a model. Ours to mend: find, watch, differs. The rest is not decided, or not ours.
CLASSES = ("equal", "found", "find", "watch", "differs", "random", "model", "library", "undecided")
FAULTS = ("find", "watch", "differs")
STEPS = 3
Made = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


def judged(make: Callable[[], Made]) -> dict[str, Any]:
    """The record of one model; ``make`` builds it anew, with its inputs, and is called up to four times."""
    import skipgrad as sg

    record: dict[str, Any] = {"class": "model"}
    try:
        model, args, kwargs = made(make)
    except ImportError as error:
        return {"class": "library", "reason": _said(error)}
    except (MemoryError, RuntimeError) as error:
        reason = _said(error)
        return {"class": "undecided" if out_of_memory(reason) else "model", "reason": reason}
    except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises
        return {"class": "model", "reason": _said(error)}
    try:
        graph = sg.find(model, *args, **kwargs)
        record |= {"skips": len(graph), "kinds": sorted({s.kind for s in graph})}
    except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises
        record |= {"class": "find", "reason": _said(error)}
    plain = trained(make, None)
    if isinstance(plain, str) and out_of_memory(plain):
        return record | {"class": "undecided", "reason": plain}
    if isinstance(plain, str):
        # Its own forward or backward raises, or nothing of what it returns asks for a gradient.
        if record["class"] == "find":
            return {"class": "model", "reason": plain}
        return record | {"class": "found", "reason": plain}
    if record["class"] == "find":
        return record
    seen: dict[str, Any] = {}
    watched = trained(make, seen)
    record |= seen
    if not isinstance(watched, str) and alike(plain, watched):
        return record | {"class": "equal"}
    again = trained(make, None)
    if isinstance(again, str) or not alike(plain, again):
        return record | {"class": "random", "reason": "two trainings without skipgrad differ"}
    if not initialised(make):
        return record | {"class": "random", "reason": "it begins with whatever its memory held (torch.empty)"}
    if isinstance(watched, str):
        return record | {"class": "watch", "reason": watched}
    return record | {"class": "differs", "reason": "the watched training has other bits"}


def initialised(make: Callable[[], Made]) -> bool:
    """Whether a model has the same weights where the memory it gets held something else before."""
    starts: list[list[torch.Tensor]] = []
    for _ in range(2):
        held = [torch.full_like(t, 7) for t in starts[0] for _ in range(2)] if starts else []
        del held
        model = made(make)[0]
        starts.append([t.detach().clone() for t in (*model.parameters(), *model.buffers())])
    return alike(*starts)


def out_of_memory(reason: str) -> bool:
    """Whether an error is for want of memory; oneDNN says it in words of its own."""
    return any(words in reason.lower() for words in ("memory", "could not create a primitive"))


def made(make: Callable[[], Made]) -> Made:
    """A model and its inputs, from the same random numbers each time."""
    seed()
    with quiet():
        return make()


def trained(make: Callable[[], Made], seen: dict[str, Any] | None) -> list[torch.Tensor] | str:
    """Losses and weights after three steps of SGD, or what was raised.

    ``seen``: they run under a watch, whose account it gets.
    """
    import skipgrad as sg

    try:
        model, args, kwargs = made(make)
        model.train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        losses: list[torch.Tensor] = []

        def steps() -> None:
            for step in range(STEPS):
                seed(step + 1)
                optimizer.zero_grad()
                loss = loss_of(model(*copy.deepcopy(args), **copy.deepcopy(kwargs)))
                loss.backward()
                optimizer.step()
                losses.append(loss.detach().clone())

        with quiet():
            if seen is None:
                steps()
            else:
                with sg.watch(model, optimizer=optimizer, budget=None) as ledger:
                    steps()
                account = ledger.account
                seen |= {
                    "measured": account.measured,
                    "unmeasured": dict(account.unmeasured),
                    "rows": sum(account.rows.values()),
                    "ran": sum(n > 0 for n in account.ran.values()),
                    "notes": [str(note)[:160] for note in ledger.notes][:4],
                    "adds_up": account.adds_up,
                }
    except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises
        return _said(error)
    state = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    return [*losses, *state]


def loss_of(out: Any) -> torch.Tensor:
    """The mean square of every real tensor that a model returns and that asks for a gradient, summed."""
    parts = [t.float().square().mean() for t in tensors(out) if t.requires_grad and not t.is_complex() and t.numel()]
    if not parts:
        raise ValueError("nothing that it returns asks for a gradient")
    return sum(parts[1:], parts[0])


def tensors(value: Any, depth: int = 6) -> Iterator[torch.Tensor]:
    """The tensors in whatever a model returns."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each, depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, nn.Module | type):
        for each in vars(value).values():
            yield from tensors(each, depth - 1)


def alike(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    """Whether all bits are the same; not a number is like itself."""
    return len(one) == len(two) and all(
        a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
        for a, b in zip(one, two, strict=True)
    )


def seed(more: int = 0) -> None:
    """Torch's, numpy's and Python's random numbers."""
    import numpy as np

    torch.manual_seed(more)
    np.random.seed(more)
    random.seed(more)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What a model prints is nobody's."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def examine(ref: str) -> dict[str, Any]:
    """All models of one module of a folder: ``FOLDER::MODULE``."""
    folder, name = ref.split("::")
    begun = time.perf_counter()
    package = _package(Path(folder))
    try:
        with quiet():
            module = importlib.import_module(f"{package}.{name}")
    except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises
        kind = "library" if isinstance(error, ImportError) else "model"
        return {"ref": name, "models": {name: {"class": kind, "reason": _said(error)}}, "seconds": _since(begun)}
    models = {entry: judged(make) for entry, make in _entries(module, name)}
    worn = any(out_of_memory(m.get("reason", "")) for m in models.values()) or _worn()
    return {"ref": name, "models": models, "seconds": _since(begun), "worn": worn}


def _worn() -> bool:
    """Whether earlier models have left this process little of the memory that it may have."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    taken = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    return 0 < limit < 2 * taken


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 2)


def _package(folder: Path) -> str:
    """Makes the folder importable as it names itself, without running its ``__init__``, which imports them all."""
    parts = [folder.parent.name, folder.name]
    for k, path in ((1, folder.parent), (2, folder)):
        name = ".".join(parts[:k])
        if name not in sys.modules:
            sys.modules[name] = package = types.ModuleType(name)
            package.__path__ = [str(path)]
    if str(folder.parent.parent) not in sys.path:
        sys.path.append(str(folder.parent.parent))
    return ".".join(parts)


def _entries(module: types.ModuleType, name: str) -> list[tuple[str, Callable[[], Made]]]:
    """(name, how it is made) of each model a module says it has."""
    listed = getattr(module, "MENAGERIE_ENTRIES", None) or [(name, "build", "example_input")]
    return [(str(entry[0]), _maker(module, entry[1], entry[2])) for entry in listed]


def _maker(module: types.ModuleType, build: Any, example: Any) -> Callable[[], Made]:
    def make() -> Made:
        model = (build if callable(build) else getattr(module, build))()
        given = (example if callable(example) else getattr(module, example))()
        if not isinstance(model, nn.Module):
            raise TypeError(f"it builds a {type(model).__name__}, not a module")
        if isinstance(given, Mapping):
            return model, (), dict(given)
        if isinstance(given, list | tuple) and not _takes_one(model, len(given)):
            return model, tuple(given), {}
        return model, (given,), {}

    return make


def _takes_one(model: nn.Module, given: int) -> bool:
    """Whether a forward has one argument, so that several inputs are one list."""
    places = [
        p
        for p in inspect.signature(model.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
    ]
    return given > 1 and len(places) == 1 and places[0].kind is not inspect.Parameter.VAR_POSITIONAL
