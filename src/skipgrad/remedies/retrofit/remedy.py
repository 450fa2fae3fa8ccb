"""A retrofit at the operands of merges: its plan, and its being in force on a model."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.errors import RemedyRefused
from skipgrad.core.graph import SkipGraph
from skipgrad.instrument.wrappers import locate, peel, strip_call
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Checked, Edit, Verification
from skipgrad.remedies.retrofit import rewrite
from skipgrad.remedies.retrofit.branches import is_plain_norm
from skipgrad.remedies.retrofit.design import NEW, SAME, Design, Make, told
from skipgrad.remedies.retrofit.grafted import Grafted
from skipgrad.remedies.retrofit.lines import lines_of
from skipgrad.remedies.retrofit.places import Spot


class Retrofit(Remedy):
    """A remedy that puts a form of skip into a net that exists.

    It reaches every skip whose merge is a call of its own; `Plan.skipped` names the others, with the reason.
    """

    kind: ClassVar[RemedyKind] = "model"
    by_default: ClassVar[bool] = False

    @abstractmethod
    def design(self, graph: SkipGraph) -> Design:
        """What is to be done; raises `RemedyRefused` where the form does not apply."""

    @abstractmethod
    def form(self, design: Design) -> tuple[str, str]:
        """The merge before and after, as formulas."""

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        """The plan; measurements are not needed. Its ``promise`` says whether the net's output stays the same."""
        design = self.design(graph)
        if not design.edits:
            reason = f"none of the {len(graph)} skips can be reached" if len(graph) else "no skip was found"
            raise refusal(self.name, reason, design.left)
        before, after = self.form(design)
        edits = [Edit(s.place.module or "root", told(s, m), ", ".join(s.skips), before, after) for s, m in design.edits]
        edits += [Edit(v.name, str(v), factor=v.factor) for v in design.values]
        edits += [Edit(path, "the norm becomes its own scale and shift") for path in design.unnormed]
        edits += [Edit(m.path, "the norm moves to the front of the branch") for m in design.moved]
        promise = SAME if design.same else NEW
        parts = tuple(dict.fromkeys(path.partition(".")[0] for s in graph for b in s.branches for path in b))
        return Plan(
            self.name, tuple(edits), design.left, lines_of(design), partial(_bound, design=design, parts=parts), promise
        )


def _bound(plan: Plan, model: nn.Module, design: Design, parts: tuple[str, ...]) -> Applied:
    own, _ = peel(model)
    for part in parts:
        if not hasattr(own, strip_call(part).partition("[")[0]):  # a merge of the root's own is in any model
            locate(own, part, f"applying {plan.remedy}")
    return Retrofitted(plan, model, design)


class Retrofitted(Grafted):
    """A `Retrofit` in force."""

    def __init__(self, plan: Plan, model: nn.Module, design: Design) -> None:
        super().__init__(plan, model)
        self.design = design
        doing = f"applying {plan.remedy}"
        self.modules = {spot.place.module: locate(self.model, spot.place.module, doing) for spot, _ in design.edits}
        paths = (*design.unnormed, *(m.path for m in design.moved))
        self.norms = {path: locate(self.model, path, doing) for path in paths}
        odd = next((m.path for m in design.moved if not is_plain_norm(self.norms[m.path])), None)
        if odd is not None:
            raise RemedyRefused(
                doing,
                received=f"a {type(self.norms[odd]).__name__} at {odd}, which may do more than normalise",
                todo="use a form that leaves the norms where they are, such as deepnorm or rezero",
            )
        scripted = [p for p, m in self.modules.items() if isinstance(m, torch.jit.ScriptModule)]
        if scripted:
            raise RemedyRefused(
                doing, received=f"TorchScript at {scripted[0] or 'the root'}", todo="apply it to the Python model"
            )
        self.modes: dict[str, rewrite.AtCalls] = {}
        self._saved: dict[str, torch.Tensor] = {}

    def touched(self) -> frozenset[str]:
        return frozenset(v.name for v in self.design.values)

    def _do(self) -> None:
        by_module: dict[str, list[tuple[Spot, Make]]] = {}
        for spot, make in self.design.edits:
            by_module.setdefault(spot.place.module, []).append((spot, make))
        for path, edits in by_module.items():
            self._rewrite(path, self.modules[path], edits)
        for path in self.design.unnormed:
            self._mark(self.norms[path], _unnormed)
        for moved in self.design.moved:
            self._move(self.norms[moved.path], moved.last)
        with torch.no_grad():
            for value in self.design.values:
                parameter = self.model.get_parameter(value.name)
                self._saved[value.name] = parameter.detach().clone()
                value.write(parameter)
        self._forget_compiled()

    def _rewrite(self, path: str, owner: nn.Module, edits: Sequence[tuple[Spot, Make]]) -> None:
        held = rewrite.Edits()
        at: dict[str, dict[int, dict[int, str]]] = {}
        for i, (spot, (name, args)) in enumerate(edits):
            if name == "Normed":
                args = {"norm": self.norms[args["norm"]].forward}
            held[str(i)] = getattr(rewrite, name)(**args)
            place = spot.place
            at.setdefault(place.name, {}).setdefault(place.number, {})[place.position] = str(i)
        self._hold(owner, path, held)
        mode = rewrite.AtCalls(held, at, path)
        self.modes[path] = mode
        self._mark(owner, partial(_around, f"{self.key}_mode"), **{f"{self.key}_mode": mode})

    def _move(self, norm: nn.Module, last: bool) -> None:
        final: list[nn.Module] = []
        if last:
            held = rewrite.Edits({"final": copy.deepcopy(norm)})
            with torch.no_grad():
                for name, parameter in held.named_parameters():
                    parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            self._hold(self.model, "", held, "_final")
            final.append(held["final"])
        self._mark(norm, _passed, skipgrad_final=final)

    def _revert(self) -> None:
        for mode in self.modes.values():
            mode.open = False
        self.modes.clear()
        super()._revert()
        with torch.no_grad():
            for name, value in self._saved.items():
                self.model.get_parameter(name).copy_(value)
        self._saved.clear()

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that every planned operand passed through its module and, where promised, that the output is the same.

        Needs inputs of the model; verify before training, as a scale that has moved changes the output.
        """
        what = "every planned operand passes through its module"
        if not evidence.has_inputs:
            checks = [Checked(what, "not applicable", reason="no example inputs given")]
            return Verification(self.plan.remedy, tuple(checks))
        seen: set[int] = set()
        wrong: list[str] = []
        pairs = self._pairs()
        handles = [module.register_forward_hook(partial(_look, seen, wrong, spot)) for spot, module in pairs]
        try:
            after = self._run(evidence)
        finally:
            for handle in handles:
                handle.remove()
        missed = [spot.skips[0] for spot, module in pairs if id(module) not in seen]
        told = "; ".join(wrong[:3]) or f"{len(pairs) - len(missed)} of {len(pairs)}"
        ok = not missed and not wrong
        checks = [Checked(what, "passed" if ok else "failed", (len(missed) + len(wrong)) / len(pairs), told)]
        if self.design.same:
            for mode in self.modes.values():
                mode.open = False
            try:
                before = self._run(evidence)
            finally:
                for mode in self.modes.values():
                    mode.open = True
            checks.append(self._same(after, before))
        return Verification(self.plan.remedy, tuple(checks))

    def _pairs(self) -> list[tuple[Spot, nn.Module]]:
        """Each spot with its small module."""
        counts: dict[str, int] = {}
        pairs = []
        for spot, _ in self.design.edits:
            path = spot.place.module
            i = counts.get(path, 0)
            counts[path] = i + 1
            pairs.append((spot, self.modes[path].edits[str(i)]))
        return pairs


def _look(seen: set[int], wrong: list[str], spot: Spot, module: nn.Module, args: Any, _out: Any) -> None:
    seen.add(id(module))
    shape = args[0].shape
    if len(shape) != len(spot.shape) or (spot.axis is not None and shape[spot.axis] != spot.width):
        wrong.append(f"{spot.skips[0]}: {tuple(shape)} came, {spot.shape} was planned")


def _around(key: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    mode: rewrite.AtCalls = vars(module)[key]
    return mode.around(forward, args, kwargs)


def _unnormed(_module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with rewrite.ScaleAndShift():
        return forward(*args, **kwargs)


def _passed(module: nn.Module, _forward: Callable[..., Any], x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """A norm in its old place, which lets x pass, or the new norm that stands there."""
    final = vars(module)["skipgrad_final"]
    return final[0](x) if final else x
