"""Blocks that are computed again in the backward, and back to blocks that are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from skipgrad.instrument.patch import ForwardPatch


class Checkpointed:
    """Checkpointing in force on a model; `undo` takes it away.

    Each block runs under ``torch.utils.checkpoint`` (``use_reentrant=False``, random numbers kept), so dropout draws
    the same mask again. Buffers that a forward changes (a batch norm's statistics) are changed once: in the second run
    the block has copies of them.

    Attributes:
        segments: paths of the blocks.
        saved: bytes that a forward saved before.
        predicted: bytes it was to save, at the worst moment of a backward.
        predicted_saved: bytes it was to save when the forward is over.
        measured_saved: bytes it saves when the forward is over, measured with the blocks in force.
        seconds: that the second forwards take, as they were measured.
        forward_seconds: that a whole forward takes.
        share: under ``torch.compile``, PyTorch's ``activation_memory_budget`` in force; None elsewhere.
    """

    def __init__(self, segments: Sequence[str], **figures: Any) -> None:
        self.segments = tuple(segments)
        self.saved: int = figures.get("saved", 0)
        self.predicted: float = figures.get("predicted", 0.0)
        self.predicted_saved: float = figures.get("predicted_saved", 0.0)
        self.measured_saved: int | None = None
        self.seconds: float = figures.get("seconds", 0.0)
        self.forward_seconds: float = figures.get("forward_seconds", 0.0)
        self.share: float | None = figures.get("share")
        self._patches: list[ForwardPatch] = []
        self._undo: list[Callable[[], Any]] = []

    def start(self, model: nn.Module) -> Checkpointed:
        """Puts it in force."""
        for path in self.segments:
            self._patches.append(ForwardPatch(model.get_submodule(path), _again(model.get_submodule(path))))
        return self

    def on_undo(self, call: Callable[[], Any]) -> None:
        """What else is to be put back."""
        self._undo.append(call)

    def undo(self) -> None:
        """Every block keeps what it saves, as before; a second call does nothing."""
        while self._patches:
            self._patches.pop().remove()
        while self._undo:
            self._undo.pop()()

    def __str__(self) -> str:
        if self.share is not None:
            return f"activation_memory_budget={self.share:.3f}, PyTorch's own under torch.compile"
        if not self.segments:
            return f"nothing to do: a forward saves {_bytes(self.saved)}"
        told = "" if self.measured_saved is None else f" (measured {_bytes(self.measured_saved)})"
        extra = self.seconds / self.forward_seconds if self.forward_seconds else 0.0
        shown = ", ".join(self.segments[:6]) + (f" and {len(self.segments) - 6} more" * (len(self.segments) > 6))
        return (
            f"{len(self.segments)} blocks are computed again ({shown}): a forward saves {_bytes(self.predicted_saved)}"
            f"{told} in place of {_bytes(self.saved)}, at most {_bytes(self.predicted)} in a backward, for "
            f"{100 * extra:.0f} % more forward"
        )


def _again(module: nn.Module) -> Callable[[Callable[..., Any], Any, Any], Any]:
    holders = [m for m in module.modules() if m._buffers]

    def around(original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return original(*args, **kwargs)
        return checkpoint(
            original,
            *args,
            use_reentrant=False,
            preserve_rng_state=True,
            context_fn=lambda: (nullcontext(), _copied_buffers(holders) if holders else nullcontext()),
            **kwargs,
        )

    return around


@contextmanager
def _copied_buffers(holders: list[nn.Module]) -> Iterator[None]:
    """Inside, what the forward writes into buffers goes into copies.

    They are copies, and not the old values put back, because a write would raise the version of what autograd saved.
    """
    before = [(m, m._buffers) for m in holders]
    copies: dict[int, Any] = {}
    for m, buffers in before:
        m.__dict__["_buffers"] = {
            k: b if b is None else copies.setdefault(id(b), b.detach().clone()) for k, b in buffers.items()
        }
    try:
        yield
    finally:
        for m, buffers in before:
            m.__dict__["_buffers"] = buffers


def _bytes(value: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError
