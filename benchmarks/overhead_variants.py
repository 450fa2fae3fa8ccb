"""What a training step of overhead.py has around it: nothing, the ledger, module hooks; overhead_peers.py the peers."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from overhead_nets import Batch
from torch import nn


class Variant:
    """A model with its optimizer, and one training step of it; this one has nothing around it.

    Args:
        batch: the model, which the variant keeps and trains, its inputs and its labels.
        compiled: puts ``torch.compile`` around the model.
    """

    def __init__(self, batch: Batch, compiled: bool = False) -> None:
        self.model, self.x, self.y = batch
        self.model.train()
        self.call: Any = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.steps = 0
        self.enter()

    def enter(self) -> None:
        """Puts around the step what this variant is about."""

    def forward(self) -> torch.Tensor:
        """Logits, one row a label."""
        return logits(self.call(self.x))

    def train(self) -> None:
        """Forward, backward and step."""
        self.optimizer.zero_grad()
        F.cross_entropy(self.forward(), self.y).backward()
        self.optimizer.step()

    def step(self) -> None:
        """One training step, counted."""
        self.train()
        self.steps += 1

    def gave(self) -> str:
        """What it measured, in a few words."""
        return ""

    def close(self) -> None:
        """Takes it away again."""


def logits(out: Any) -> torch.Tensor:
    """The logits a model returned, as one row a label."""
    out = getattr(out, "logits", out)
    return out.flatten(0, 1) if out.ndim == 3 else out


class Ledger(Variant):
    """`sg.watch` at every step, or at every n-th."""

    every = 1
    layers = True

    def enter(self) -> None:
        import skipgrad as sg

        self.ledger = sg.watch(self.call, optimizer=self.optimizer, every=self.every, layers=self.layers)
        self.ledger.__enter__()

    def gave(self) -> str:
        measured = -(-self.steps // self.every)
        rows, layers = len(self.ledger.rows()), len(self.ledger.layers())
        # A watch that measures nothing costs nothing: what it gave stands beside what it took.
        if not rows or rows % measured or layers % measured:
            raise RuntimeError(f"{rows} skip rows, {layers} layer rows from {measured} steps; {self.ledger.notes}")
        notes = f"; {len(self.ledger.notes)} notes" if self.ledger.notes else ""
        return f"{rows // measured} skips, {layers // measured} layers x {measured} of {self.steps} steps{notes}"

    def close(self) -> None:
        self.ledger.close()


class Ledger10(Ledger):
    """`sg.watch` at every 10th step."""

    every = 10


class LedgerBudget(Ledger):
    """`sg.watch` as it comes: as many steps as one per cent of the time pays for."""

    def enter(self) -> None:
        import skipgrad as sg

        self.ledger = sg.watch(self.call, optimizer=self.optimizer)
        self.ledger.__enter__()

    def gave(self) -> str:
        cost = self.ledger.cost
        if not self.ledger.rows():
            raise RuntimeError(f"no rows; {self.ledger.notes}")
        return f"{cost.measured} of {cost.seen} steps; says it cost {100 * (cost.share or 0):.2f} %"


class LedgerSkips(Ledger):
    """`sg.watch` at every step, without the layers."""

    layers = False


class Adapted(Variant):
    """A plain step of the model without in-place ops, which module hooks cannot stand."""

    def enter(self) -> None:
        without_inplace(self.model)


def without_inplace(model: nn.Module) -> bool:
    """Rewrites in-place activations and torchvision's ``out += identity``; False where there were none."""
    found = False
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
            found = True
        if type(module).__name__ == "Bottleneck":
            module.forward = types.MethodType(_bottleneck, module)
            found = True
    return found


def _bottleneck(self: Any, x: torch.Tensor) -> torch.Tensor:
    """torchvision's Bottleneck.forward, its add not in place."""
    out = self.relu(self.bn1(self.conv1(x)))
    out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Hooks(Variant):
    """``register_full_backward_hook`` on every module, the norms of what comes and goes read there and then."""

    def enter(self) -> None:
        self.norms: dict[str, list[float]] = {}

        def hook(name: str) -> Callable[..., None]:
            def keep(_module: nn.Module, grad_in: Any, grad_out: Any) -> None:
                self.norms[name] = [g.norm().item() for g in (*grad_in, *grad_out) if g is not None]

            return keep

        self.handles = [m.register_full_backward_hook(hook(name)) for name, m in self.model.named_modules()]

    def gave(self) -> str:
        return f"{sum(map(len, self.norms.values()))} norms a step"

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


class HooksAdapted(Hooks):
    """The same on the rewritten model."""

    def enter(self) -> None:
        without_inplace(self.model)
        super().enter()
