"""depth-transfer: a rate tuned on a shallow net made right for a deep one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.branches import branch_ends, stops_zero
from skipgrad.core.errors import BadInput, RemedyRefused
from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.instrument.wrappers import locate
from skipgrad.remedies.affine import affine
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.plan import Applied, Plan
from skipgrad.remedies.records import Checked, Edit, Verification
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.design import NEW, Design, short_add
from skipgrad.remedies.retrofit.remedy import Retrofitted
from skipgrad.remedies.steering import modules_by_skip

_LINES = """
# The optimizer, once it is built: SGD takes the branches' rate × m, Adam leaves it and takes their eps × 1/m.
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("depth-transfer", tuned_at={tuned_at}).plan(graph).apply(model, optimizer)
# ... train with the rate of the shallow net; applied.undo() ends it
"""


def identity_add(skip: Skip) -> str | None:
    """Why a skip is no short add with an identity shortcut; None when it is one."""
    if skip.shortcut != "identity":
        return f"its shortcut is no identity but {skip.shortcut}"
    return short_add(skip)


def branches_of(graph: SkipGraph) -> list[str]:
    """The skips whose branches count as depth."""
    return [s.name for s in graph.skips if identity_add(s) is None]


class DepthTransfer(Retrofit):
    """y = x + F(x)/m with m = L / L_tuned, and the last layer of every branch zero at the start.

    L is the number of short adds with an identity shortcut. The branches' share of the optimizer goes with it: under
    SGD their rate × m, under Adam and AdamW the rate unchanged and their eps × 1/m. Then a rate tuned on the shallow
    net is near the deep one's own. Embedding, head, norms outside and blocks that change the shape are left alone.

    Papers: Dey et al. 2025, CompleteP (arXiv:2505.01618); Yang et al. 2023, Depth-muP (arXiv:2310.02244).

    Args:
        tuned_at: L_tuned, the number of such skips in the net that the rate was tuned on; 2 as in the paper.
        zero: whether the last layers start at zero.
    """

    name: ClassVar[str] = "depth-transfer"
    title: ClassVar[str] = "A rate tuned on a shallow net, made right for a deep one"

    def __init__(self, tuned_at: int = 2, zero: bool = True) -> None:
        if isinstance(tuned_at, bool) or not isinstance(tuned_at, int) or tuned_at < 1:
            raise BadInput(
                "setting up depth-transfer",
                where="tuned_at",
                received=repr(tuned_at),
                todo="give the number of skips in the net that was tuned, e.g. len(sg.find(shallow, x))",
            )
        self.tuned_at, self.zero = tuned_at, zero

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, identity_add)
        many = sum(len(s.skips) for s in found)
        factor = self.tuned_at / max(1, many)
        return Design(tuple((s, ("Factor", {"factor": factor})) for s in found), left=tuple(left))

    def form(self, design: Design) -> tuple[str, str]:
        return "x + F(x)", "x + F(x)/m"

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        base = super().plan(graph, measured)
        design = self.design(graph)
        many = sum(len(s.skips) for s, _ in design.edits)
        m = many / self.tuned_at
        reached = {n for s, _ in design.edits for n in s.skips}
        modules = {n: paths for n, paths in modules_by_skip(graph)[0].items() if n in reached}
        ends = branch_ends(graph, stops_zero).skips if self.zero else {}
        zeroed = {path: len(skips) for path, skips in ends.items() if set(skips) <= reached}
        edits = [*base.edits, *(Edit(p, "weight and bias to zero", before="F(x)/m", after="0") for p in zeroed)]
        told = f"SGD: rate × {m:.4g}; Adam: rate as it is, eps × {1 / m:.4g}"
        edits += [Edit(path, f"in the optimizer, {told}", skip) for skip, paths in modules.items() for path in paths]
        return Plan(
            self.name,
            tuple(edits),
            base.skipped,
            base.lines + _LINES.format(tuned_at=self.tuned_at),
            partial(_bound, inner=base, m=m, design=design, modules=modules, zeroed=zeroed),
            NEW,
        )


def _bound(
    plan: Plan,
    model: nn.Module,
    inner: Plan,
    m: float,
    design: Design,
    modules: Mapping[str, tuple[str, ...]],
    zeroed: Mapping[str, int],
) -> Applied:
    inner.bind(inner, model)  # refuses another model
    return Transferred(plan, model, design, m, modules, zeroed)


class Transferred(Retrofitted):
    """`DepthTransfer` in force."""

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        design: Design,
        m: float,
        modules: Mapping[str, tuple[str, ...]],
        zeroed: Mapping[str, int],
    ) -> None:
        super().__init__(plan, model, design)
        doing = f"applying {plan.remedy}"
        self.m = m
        holders: dict[int, int] = {}
        for module in self.model.modules():
            for p in module.parameters(recurse=False):
                holders[id(p)] = holders.get(id(p), 0) + 1
        own: dict[int, nn.Parameter] = {}
        for paths in modules.values():
            for path in paths:
                module = locate(self.model, path, doing)
                deep = isinstance(module, nn.MultiheadAttention)
                own |= {id(p): p for p in module.parameters(recurse=deep) if holders[id(p)] == 1}
        self.branch_parameters = list(own.values())
        self._zeroing: list[tuple[nn.Module, str]] = []
        for path, many in zeroed.items():
            found, _ = affine(locate(self.model, path, doing), many)
            self._zeroing += [(module, name) for module, name in found if id(getattr(module, name)) in own]
        self._values: list[torch.Tensor] = []
        self._groups: list[tuple[torch.optim.Optimizer, list[dict[str, Any]]]] = []

    def touched(self) -> frozenset[str]:
        names = {id(p): n for n, p in self.model.named_parameters()}
        return frozenset(names[id(getattr(m, n))] for m, n in self._zeroing)

    def _do(self) -> None:
        super()._do()
        with torch.no_grad():
            for module, name in self._zeroing:
                parameter = getattr(module, name)
                self._values.append(parameter.detach().clone())
                parameter.zero_()

    def attach(self, optimizer: torch.optim.Optimizer) -> Transferred:
        """Puts the branches' parameters into groups of their own, with their rate or eps.

        Raises:
            RemedyRefused: the optimizer is neither a kind of SGD nor of Adam, or has groups of ours already.
        """
        kind = _kind(optimizer)
        if kind is None or any(o is optimizer for o, _ in self._groups):
            raise RemedyRefused(
                f"attaching {self.plan.remedy}",
                received=f"a {type(optimizer).__name__}, for which it has no rule" if kind is None else "it twice",
                todo="use SGD, Adam or AdamW" if kind is None else "attach it once",
            )
        before = list(optimizer.param_groups)
        mine = {id(p) for p in self.branch_parameters}
        self._groups.append((optimizer, [dict(g, params=list(g["params"])) for g in before]))
        for group in before:
            branch = [p for p in group["params"] if id(p) in mine]
            if not branch:
                continue
            new = {k: v for k, v in group.items() if k != "params"} | {"params": branch}
            if kind == "sgd":
                new["lr"] = group["lr"] * self.m
            else:
                new["eps"] = group["eps"] / self.m
            group["params"] = [p for p in group["params"] if id(p) not in mine]
            optimizer.param_groups.append(new)
        optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"]]
        super().attach(optimizer)
        return self

    def _revert(self) -> None:
        super()._revert()
        with torch.no_grad():
            for (module, name), value in zip(self._zeroing, self._values, strict=False):
                getattr(module, name).copy_(value)
        self._values.clear()
        for optimizer, groups in self._groups:
            kind = _kind(optimizer)
            now = {id(p): g for g in optimizer.param_groups for p in g["params"]}
            for group in groups:
                # A schedule may have moved the rate since: what is put back is today's, without our factor.
                held = now.get(id(group["params"][0]))
                if held is not None:
                    branch = any(group["params"][0] is p for p in self.branch_parameters)
                    group["lr"] = held["lr"] / self.m if branch and kind == "sgd" else held["lr"]
            optimizer.param_groups[:] = groups
        self._groups.clear()

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks the merges' operands, the zeros, and what the optimizer holds."""
        checks = [*super()._verify(evidence).checks]
        largest = max((float(getattr(m, n).detach().abs().max()) for m, n in self._zeroing), default=0.0)
        what = f"{len(self._zeroing)} weights and biases of last layers are exactly 0"
        checks.append(Checked(what, "passed" if largest == 0 else "failed", largest))
        what = "the optimizer holds the branches in groups of their own"
        if not self._groups:
            checks.append(Checked(what, "not applicable", reason="no optimizer attached"))
        else:
            mine = {id(p) for p in self.branch_parameters if p.requires_grad}
            groups = [{id(p) for p in g["params"]} for o, _ in self._groups for g in o.param_groups]
            mixed = [g for g in groups if g & mine and g - mine]
            checks.append(Checked(what, "failed" if mixed else "passed", float(len(mixed))))
        return Verification(self.plan.remedy, tuple(checks))


def _kind(optimizer: torch.optim.Optimizer) -> str | None:
    if isinstance(optimizer, torch.optim.SGD):
        return "sgd"
    return "adam" if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW) else None


REMEDIES.register("depth-transfer", DepthTransfer(), rank=7)
