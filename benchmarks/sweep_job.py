"""What a sweep does with one model: `examine`. The same function runs in a local process and in a Ray actor."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import chain
from typing import Any

import sweep_small
from machine import forget_peak, peak_bytes

# What became of a model: traced; a library it needs is not installed; its own forward or constructor raises, without
# find too; only find fails; it could not be decided, for want of memory or time.
CLASSES = ("traced", "library", "model", "find", "undecided")
_TELLING = ("tried first", "could not be traced", "no tensor")
_LARGE = 10**9  # bytes of weights above which a model is run for real with smaller widths only; more in more memory


def prepare(memory_gb: float) -> None:
    """Once a worker: one thread, no downloads, and a limit of memory, so that too many real weights fail alone."""
    global _LARGE
    _LARGE = max(_LARGE, int((memory_gb - 8) * 2**30))
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    limit = int(memory_gb * 2**30)
    # Data, not address space: libraries mapped and the object store Ray shares are nobody's weights.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
    import torch
    from torch import nn

    import skipgrad
    import skipgrad.models  # here, so that no import counts as the first model's time

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with torch.device("meta"):  # what torch imports at its first meta call is not the first model's time
        skipgrad.find(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.GELU()), torch.zeros(2, 3, 8, 8))


class Examiner:
    """What a Ray actor is made of: `prepare` once, then `examine` as often as asked."""

    def __init__(self, memory_gb: float) -> None:
        prepare(memory_gb)

    def ready(self) -> None:
        """Answers when the imports are done."""

    def examine(self, ref: str) -> dict[str, Any]:
        """`examine`."""
        return examine(ref)


def examine(ref: str) -> dict[str, Any]:
    """The record of one model: what find found in it and how long that took, or why not.

    Args:
        ref: as `skipgrad find` takes it.
    """
    forget_peak()
    begun = time.perf_counter()
    spent: dict[str, float] = defaultdict(float)
    record: dict[str, Any] = {"ref": ref, "ok": False, "reason": "", "class": "traced"}
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            graph, changed = _found(ref, spent)
    except Exception as error:  # noqa: BLE001 - the reason why is the record
        record["reason"] = reason_of(error)
        record["class"] = error.why if isinstance(error, NotTraced) else class_of(error)
    else:
        nodes = graph.found.trace.nodes
        kinds = Counter(s.kind for s in graph.skips)
        record |= {
            "ok": True,
            **{kind: kinds[kind] for kind in ("add", "concat", "gate", "index")},
            "long": graph.count(long=True),
            "others": len(graph.others),
            "ops": sum(n.call is not None and n.result == 0 for n in nodes),
            "unknown": dict(sum((Counter({u.op: u.count}) for u in graph.unknown), Counter())),
            "how": graph.how,
            "training": graph.training,
            "small": changed == "small",
            "filled": changed == "filled in",
            "notes": [n[:200] for n in graph.notes if n.startswith(_TELLING)],
        }
    whole = time.perf_counter() - begun
    seconds = whole - spent["resolve"] - spent["build"]
    record |= {"find_s": round(seconds, 4), "build_s": round(spent["build"], 4), "peak_bytes": peak_bytes()}
    return record


class NotTraced(Exception):
    """No configuration of a model could be traced.

    Attributes:
        why: one of CLASSES.
        error: the first error.
    """

    def __init__(self, why: str, error: BaseException) -> None:
        super().__init__(reason_of(error))
        self.why = why


def _found(ref: str, spent: dict[str, float]) -> tuple[Any, str]:
    """The graph, and how the configuration was changed for it: not at all, "filled in" or "small"."""
    from skipgrad.finder import find_built
    from skipgrad.models import resolve_model

    start = time.perf_counter()
    source = resolve_model(ref)
    if not ref.startswith("transformers:"):
        spent["resolve"] += time.perf_counter() - start
        try:
            return find_built(_timed(source.build, spent), lambda d: source.example(None, d), label=ref), ""
        except Exception as error:
            raise NotTraced(_fault([(source, error)]), error) from error
    model_type = source.ref.partition(":")[2]
    tried: list[tuple[Any, Exception]] = []
    options = chain([("", None)], sweep_small.alternatives(model_type))
    for changed, args in options:
        one = _small(source) if args is None else source.with_args(**args)
        spent["resolve"] += time.perf_counter() - start
        make = _bounded(_timed(one.build, spent), _LARGE if changed == "small" else _LARGE // 5)
        try:
            return find_built(make, lambda d, one=one: one.example(None, d), label=ref), changed
        except Exception as error:
            if class_of(error) == "library":
                raise NotTraced("library", error) from error
            if "_forward_unimplemented" in reason_of(error):
                raise NotTraced("model", NotImplementedError("it has no forward of its own")) from error
            tried.append((one, error))
        start = time.perf_counter()
    raise NotTraced(_fault(tried), tried[0][1])


def _timed(make: Callable[[], Any], spent: dict[str, float]) -> Callable[[], Any]:
    def timed() -> Any:
        start = time.perf_counter()
        try:
            return make()
        finally:
            spent["build"] += time.perf_counter() - start

    return timed


def _bounded(make: Callable[[], Any], most: int) -> Callable[[], Any]:
    """Refuses to build with memory what a smaller configuration can show as well."""
    needed = 0
    met: Exception | None = None

    def bounded() -> Any:
        nonlocal needed, met
        if met is not None and most < _LARGE:
            raise met  # what cannot be built without memory would take all of it
        if needed > most:
            raise MemoryError(f"its weights would take {needed / 1e9:.1f} GB")
        try:
            model = make()
        except Exception as error:
            met = error
            raise
        needed = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
        return model

    return bounded


def _fault(tried: list[tuple[Any, Exception]]) -> str:
    """Whose fault it is that nothing could be traced: the model's, where it raises without find too; else find's.

    Undecided where no configuration is small enough to be run.
    """
    import torch

    answer = "undecided"
    if class_of(tried[0][1]) == "library":
        return "library"
    for source, met in reversed(tried):  # the smallest is the last
        try:
            with torch.device("meta"):
                needed = sum(t.nbytes for t in source.build().parameters())
        except Exception:  # noqa: BLE001 - it cannot be built: so much is decided
            answer = "model"
            continue
        if needed > _LARGE:
            continue
        try:
            model = source.build()
            args, kwargs = source.example(None, "cpu")
            with torch.no_grad():
                model(*args, **kwargs)
        except (MemoryError, torch.OutOfMemoryError):
            continue
        except Exception as error:  # noqa: BLE001 - any error of its own is the answer
            answer = "undecided" if "allocate memory" in str(error) else "model"
        else:
            if class_of(met) != "undecided":  # else find was only not allowed to run it for real
                return "find"
            answer = "undecided"
    return answer


def class_of(error: BaseException) -> str:
    """One of CLASSES, from the error alone."""
    reason = reason_of(error)
    if isinstance(error, ImportError) or re.search(r"ImportError|requires the .* library|No module named", reason):
        return "library"
    if isinstance(error, MemoryError) or "allocate memory" in reason or "MemoryError" in reason:
        return "undecided"
    return "model"


def _small(source: Any) -> Any:
    """The model with two layers, where that runs as well as its own number: not every configuration can have two.

    Widths stay: on the meta device they cost nothing, and a width changed by rule of thumb may no longer fit another.
    """
    import torch
    import transformers

    def runs(source: Any) -> bool:
        try:
            with torch.device("meta"):
                model = source.build()
            args, kwargs = source.example(None, "meta")
            model(*args, **kwargs)
        except Exception:  # noqa: BLE001 - find will say why
            return False
        return True

    try:
        config = transformers.CONFIG_MAPPING[source.ref.partition(":")[2]]()
        smaller = source.with_args(**sweep_small.fewer_layers(config))
        with torch.device("meta"):
            smaller.build()
    except Exception:  # noqa: BLE001 - the configuration or the constructor refuses two layers
        return source
    return source if not runs(smaller) and runs(source) else smaller


def reason_of(error: BaseException) -> str:
    """One line: the exact message, with the last words of a SkipgradError's "received", which is the model's own."""
    received = getattr(error, "received", None)
    if isinstance(error, NotTraced):
        return str(error)
    text = received.rpartition("it raised ")[2] if received else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:400]
