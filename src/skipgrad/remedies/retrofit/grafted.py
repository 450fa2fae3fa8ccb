"""What every retrofit in force does alike: small modules, marks, the optimizer, and the undoing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import RemedyRefused
from skipgrad.instrument.patch import compiled_call
from skipgrad.instrument.state import kept
from skipgrad.instrument.tensors import tensors_in
from skipgrad.instrument.wrappers import is_sharded
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.marks import Around, mark, unmark
from skipgrad.remedies.plan import Applied, Plan
from skipgrad.remedies.records import Checked

# What float32 lets "the same output" differ by: 1·z is exact, but a sum may be made in another order.
CLOSE = 1e-5


class Grafted(Applied):
    """A remedy in force that has put small modules into a net: build the optimizer afterwards, or `attach` it.

    They are registered in the module that they work for, so that they are saved, sharded and moved with it; a state
    dict from before loads all the same, and they keep what they hold.
    """

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        super().__init__(plan, model)
        doing = f"applying {plan.remedy}"
        if is_sharded(self.model):
            raise RemedyRefused(
                doing,
                received="a model whose weights are sharded",
                todo="apply it first, then shard (fully_shard) the model",
            )
        if any("DataParallel" in w for w in self.wrappers):
            raise RemedyRefused(
                doing,
                received=f"a model wrapped in {self.wrappers[0]}, which would not average the new weights' gradients",
                todo="apply it first, wrap the model afterwards",
            )
        self.key = f"skipgrad_{plan.remedy.replace('-', '_')}"
        self.held: list[nn.Module] = []
        self._marks: list[tuple[nn.Module, object]] = []
        self._kept: list[tuple[nn.Module, str]] = []
        self._homes: list[tuple[nn.Module, str, Any]] = []
        self._joined: list[tuple[torch.optim.Optimizer, dict[str, Any]]] = []

    def _hold(self, owner: nn.Module, path: str, held: nn.Module, suffix: str = "") -> None:
        """Registers small modules in the one they work for; in the root for a container, which may run all it holds."""
        near = next((p for m in (owner, self.model) for p in m.parameters() if p.is_floating_point()), None)
        if near is not None:
            held.to(near.device, near.dtype)
        held.train(owner.training)
        self.held.append(held)
        home = self.model if isinstance(owner, nn.ModuleDict | nn.ModuleList) else owner
        name = f"{self.key}{suffix}" if home is owner else f"{self.key}_{path.replace('.', '_')}"
        home.add_module(name, held)
        self._homes.append((home, name, home.register_load_state_dict_pre_hook(partial(_fill, name=name))))

    def _mark(self, module: nn.Module, around: Around, **kept: Any) -> None:
        """Gives a module another forward, and things to find there: in the module, so that a copy has its own."""
        for name, thing in kept.items():
            vars(module)[name] = thing
            self._kept.append((module, name))
        self._marks.append((module, mark(module, around)))

    def _revert(self) -> None:
        for module, token in reversed(self._marks):
            unmark(module, token)
        for module, name in self._kept:
            vars(module).pop(name, None)
        for home, name, handle in self._homes:
            handle.remove()
            home._modules.pop(name, None)
        for optimizer, group in self._joined:
            for parameter in group["params"]:
                optimizer.state.pop(parameter, None)
            optimizer.param_groups[:] = [g for g in optimizer.param_groups if g is not group]
        for each in (self._marks, self._kept, self._homes, self._joined, self.held):
            each.clear()
        self._forget_compiled()

    def _forget_compiled(self) -> None:
        inside = any(compiled_call(m) is not None for m in self.model.modules())
        if inside or "OptimizedModule" in self.wrappers:
            torch.compiler.reset()

    def attach(self, optimizer: torch.optim.Optimizer) -> Grafted:
        """Gives the new weights to an optimizer that does not have them, in a group without weight decay."""
        known = {id(p) for g in optimizer.param_groups for p in g["params"]}
        new = [p for held in self.held for p in held.parameters() if id(p) not in known]
        if new:
            group: dict[str, Any] = {"params": new}
            if "weight_decay" in optimizer.defaults:
                group["weight_decay"] = 0.0
            optimizer.add_param_group(group)
            self._joined.append((optimizer, optimizer.param_groups[-1]))
        return self

    def _same(self, after: list[torch.Tensor], before: list[torch.Tensor]) -> Checked:
        """The check of a promise that the output stays the same."""
        worst = max((relative(a, b) for a, b in zip(after, before, strict=True)), default=0.0)
        state = "passed" if worst <= CLOSE else "failed"
        return Checked("the output is the same in evaluation mode", state, worst)

    def _run(self, evidence: Evidence) -> list[torch.Tensor]:
        """What the model returns in evaluation mode; the model is left as it was."""
        with (
            kept(self.model, training=dict.fromkeys((n for n, _ in self.model.named_modules()), False)),
            torch.no_grad(),
        ):
            return [t.clone() for t in tensors_in(evidence.run(self.model))]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference of two tensors over the largest value of the second."""
    if not a.is_floating_point() or not b.numel():
        return 0.0 if torch.equal(a, b) else 1.0
    largest = float(b.abs().max())
    return float((a - b).abs().max()) / largest if largest else float(a.abs().max())


def _fill(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any, name: str) -> None:
    """Before a state dict is loaded: what it says nothing of keeps what it holds, so that an old checkpoint loads."""
    held: Mapping[str, torch.Tensor] = module._modules[name].state_dict() if module._modules.get(name) else {}  # type: ignore[union-attr]
    for key, value in held.items():
        state.setdefault(f"{prefix}{name}.{key}", value)
