"""Edits of parameter values: multiplied, or set to zero, and put back bitwise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from skipgrad.core.errors import RemedyRefused
from skipgrad.instrument.wrappers import locate
from skipgrad.remedies.affine import affine
from skipgrad.remedies.plan import Applied, Plan
from skipgrad.remedies.records import Left


class ParameterEdit(Applied):
    """Multiplies the parameters that scale the output of some modules; a factor of None sets them to zero.

    Args:
        plan: the plan it carries out.
        model: the model.
        factors: per module path, the factor.
        ends: per module path, the skips with a branch that ends there.
    """

    def __init__(
        self, plan: Plan, model: nn.Module, factors: Mapping[str, float | None], ends: Mapping[str, tuple[str, ...]]
    ) -> None:
        super().__init__(plan, model)
        doing = f"applying {plan.remedy}"
        left: list[Left] = []
        self.modules: dict[str, nn.Module] = {p: locate(self.model, p, doing) for p in factors}
        found: dict[str, tuple[tuple[nn.Module, str], ...]] = {}
        for path, module in self.modules.items():
            found[path], reason = affine(module, len(ends[path]))
            if not found[path]:
                left += [Left(s, reason) for s in dict.fromkeys(ends[path])]
        left += self._drop_shared(found, ends)
        self.factors = {p: factors[p] for p in factors if found[p]}
        self.targets = {p: found[p] for p in self.factors}
        self.skipped = (*plan.skipped, *left)
        if not self.targets:
            reasons = "; ".join(dict.fromkeys(s.reason for s in left))
            raise RemedyRefused(doing, received=f"no branch that it can edit: {reasons}", todo="try another remedy")
        self._saved: dict[tuple[str, int], torch.Tensor] = {}
        homes = {id(m): name for name, m in self.model.named_modules()}
        self._names = {
            (path, i): f"{homes[id(m)]}.{n}".removeprefix(".")
            for path, t in self.targets.items()
            for i, (m, n) in enumerate(t)
        }

    def _drop_shared(
        self, found: dict[str, tuple[tuple[nn.Module, str], ...]], ends: Mapping[str, tuple[str, ...]]
    ) -> list[Left]:
        """Takes out modules whose weight another module, not edited alike, holds too (tied weights)."""
        owners: dict[int, set[int]] = {}
        names: dict[int, str] = {}
        for name, module in self.model.named_modules():
            names[id(module)] = name
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), set()).add(id(module))
        left: list[Left] = []
        for path, targets in found.items():
            mine = {id(m) for m, _ in targets}
            others = [o for m, n in targets for o in owners.get(id(getattr(m, n)), ()) if o not in mine]
            if others:
                reason = f"its last layer {path!r} shares its weight with {names[others[0]]!r}"
                left += [Left(s, reason) for s in dict.fromkeys(ends[path])]
                found[path] = ()
        return left

    def touched(self) -> frozenset[str]:
        return frozenset(self._names.values())

    def parameters(self) -> list[tuple[str, str, nn.Parameter, float | None]]:
        """(module path, name in the model, parameter, factor) of everything edited."""
        return [
            (path, self._names[path, i], getattr(m, n), self.factors[path])
            for path, targets in self.targets.items()
            for i, (m, n) in enumerate(targets)
        ]

    def saved(self) -> list[torch.Tensor]:
        """What the parameters held before, in the order of `parameters`."""
        return [self._saved[p, i] for p, t in self.targets.items() for i in range(len(t))]

    def _do(self) -> None:
        with torch.no_grad():
            for path, targets in self.targets.items():
                factor = self.factors[path]
                for i, (module, name) in enumerate(targets):
                    parameter = getattr(module, name)
                    self._saved[path, i] = parameter.detach().clone()
                    # 0 · NaN is NaN, so a zero is written, not multiplied.
                    parameter.zero_() if factor is None else parameter.mul_(factor)

    def _revert(self) -> None:
        with torch.no_grad():
            for (path, i), value in self._saved.items():
                module, name = self.targets[path][i]
                getattr(module, name).copy_(value)  # to the parameter's device and dtype of today
        self._saved.clear()

    @property
    def lines(self) -> str:
        head = ["import torch", "", "with torch.no_grad():"]
        body = []
        for _, name, _, factor in self.parameters():
            act = "zero_()" if factor is None else f"mul_({factor!r})"
            body.append(f"    model.get_parameter({name!r}).{act}")
        return "\n".join(head + body) + "\n"
