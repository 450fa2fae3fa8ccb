"""What a sweep does with one model: `examine`. The same function runs in a local process and in a Ray actor."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import time
import warnings
from collections import Counter
from typing import Any

from machine import forget_peak, peak_bytes

_TELLING = ("tried first", "could not be traced", "no tensor")


def prepare(memory_gb: float) -> None:
    """Once a worker: one thread, no downloads, and a limit of memory, so that too many real weights fail alone."""
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
    spent: Counter[str] = Counter()
    record: dict[str, Any] = {"ref": ref, "ok": False, "reason": ""}
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            graph = _found(ref, spent)
    except Exception as error:  # noqa: BLE001 - the reason why is the record
        record["reason"] = reason_of(error)
    else:
        nodes = graph.trace.trace.nodes
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
            "notes": [
                n[:200] for n in graph.notes if n.startswith(("tried first", "could not be traced", "no tensor"))
            ],
        }
    whole = time.perf_counter() - begun
    seconds = whole - spent["resolve"] - spent["build"]
    record |= {"find_s": round(seconds, 4), "build_s": round(spent["build"], 4), "peak_bytes": peak_bytes()}
    return record


def _found(ref: str, spent: Counter[str]) -> Any:
    from skipgrad.finder import find_built
    from skipgrad.models import resolve_model

    start = time.perf_counter()
    source = resolve_model(ref)
    if ref.startswith("transformers:"):
        source = _small(source)
    spent["resolve"] += time.perf_counter() - start

    def make() -> Any:
        start = time.perf_counter()
        try:
            return source.build()
        finally:
            spent["build"] += time.perf_counter() - start

    return find_built(make, lambda device: source.example(None, device), label=ref)


def _small(source: Any) -> Any:
    """The model with two layers, where that runs as well as its own number: not every configuration can have two."""
    import torch

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
        smaller = source.with_args(**fewer_layers(source.ref.partition(":")[2]))
        with torch.device("meta"):
            smaller.build()
    except Exception:  # noqa: BLE001 - the configuration or the constructor refuses two layers
        return source
    return source if not runs(smaller) and runs(source) else smaller


def reason_of(error: BaseException) -> str:
    """One line: the exact message, with the last words of a SkipgradError's "received", which is the model's own."""
    received = getattr(error, "received", None)
    text = received.rpartition("it raised ")[2] if received else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:400]


# -- smaller configurations --------------------------------------------------------------------------------------------

_LAYERS = (
    "num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers", "encoder_layers", "decoder_layers",
    "num_encoder_layers", "depth", "num_hidden_groups", "n_head_layers",
)  # fmt: skip


def fewer_layers(model_type: str) -> dict[str, Any]:
    """Arguments for a configuration with two layers wherever it has a number of layers, in nested ones too.

    Widths stay: on the meta device they cost nothing, and a width changed by rule of thumb may no longer fit another.
    """
    import transformers

    return _fewer(transformers.CONFIG_MAPPING[model_type]())


def _fewer(config: Any) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for name in _LAYERS:
        value = getattr(config, name, None)
        real = config.attribute_map.get(name, name)  # ConvNeXt says num_hidden_layers for its stages
        if isinstance(value, int) and not isinstance(value, bool) and value > 2 and "stage" not in real:
            args[real] = 2
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if inner is not None and (smaller := _fewer(inner)):
            args[name] = {"model_type": inner.model_type, **smaller}
    return args
