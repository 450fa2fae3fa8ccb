"""add-skips: a plain net becomes a residual one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.errors import RemedyRefused
from skipgrad.core.graph import SkipGraph, Suggestion
from skipgrad.instrument.patch import compiled_call
from skipgrad.instrument.state import kept
from skipgrad.instrument.wrappers import locate, strip_call
from skipgrad.remedies.bridges import REGISTERED, Bridge, Shortcuts, build, projection
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.marks import mark, unmark
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Checked, Edit, Left, Verification
from skipgrad.remedies.registry import REMEDIES


@dataclass(frozen=True)
class Span:
    """Where one skip goes: the suggestion, and the class and arguments of its shortcut (None: identity)."""

    at: Suggestion
    make: tuple[str, dict[str, Any]] | None


class AddSkips(Remedy):
    """Adds y = F(x) + x around runs of layers without a skip; the activation follows the add.

    Where the shapes differ x is projected by a 1×1 convolution (or a linear layer), which is learned.

    Papers: He et al. 2016, Deep residual learning (arXiv:1512.03385); Li et al. 2018 on the loss surface with
    and without shortcuts (arXiv:1712.09913).
    """

    name: ClassVar[str] = "add-skips"
    title: ClassVar[str] = "Add skips to a plain net"
    kind: ClassVar[RemedyKind] = "model"

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not graph.suggestions:
            reason = f"it has {len(graph)} skips and no run of layers without one" if len(graph) else "too short"
            raise refusal(self.name, f"no place for a skip was found: {reason}")
        spans, left = [], []
        for s in graph.suggestions:
            make = None
            if s.fork_shape != s.merge_shape:
                make = projection(_kind(graph, s), s.fork_shape, s.merge_shape)
                if make is None:
                    shapes = f"{s.fork_shape} to {s.merge_shape}"
                    left.append(Left(f"{s.first} … {s.last}", f"no strided 1×1 projection leads from {shapes}"))
                    continue
            spans.append(Span(s, make))
        if not spans:
            raise refusal(self.name, "no place for a skip that a shortcut can bridge", left)
        edits = tuple(
            Edit(
                s.at.last,
                f"add the input of {s.at.first}" + (f" through {_text(s.make)}" if s.make else ""),
                f"{s.at.first} … {s.at.last}",
                "F(x)",
                "F(x) + P(x)" if s.make else "F(x) + x",
            )
            for s in spans
        )
        fixed = tuple(spans)
        return Plan(self.name, edits, tuple(left), _lines(fixed), lambda plan, model: Bridged(plan, model, fixed))


def _kind(graph: SkipGraph, s: Suggestion) -> str:
    """The op of the layers bridged: tells channels-first from features-last."""
    ops = {strip_call(layer.name): layer.op for layer in graph.layers}
    known = ops.get(s.first) or ops.get(s.last)
    return known or ("linear" if len(s.fork_shape) < 4 else "conv2d")


def _text(make: tuple[str, dict[str, Any]]) -> str:
    name, arguments = make
    return f"nn.{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


def _lines(spans: tuple[Span, ...]) -> str:
    table = "\n".join(
        f"    ({s.at.first!r}, {s.at.last!r}, {_text(s.make) if s.make else 'nn.Identity()'})," for s in spans
    )
    return f"""\
import torch
from torch import nn


class Shortcuts(nn.ModuleDict):
    def forward(self, x):
        return x


class Bridge:
    def __init__(self, shortcut):
        self.shortcut, self.x = shortcut, None

    def keep(self, module, args):
        self.x = args[0]

    def add(self, module, args, out):
        x, self.x = self.x, None
        return out + self.shortcut(x)


places = [
{table}
]
model.{REGISTERED} = Shortcuts()
for i, (first, last, shortcut) in enumerate(places):
    for weight in shortcut.parameters():
        nn.init.kaiming_normal_(weight, nonlinearity="linear")
    near = next(model.parameters())
    model.{REGISTERED}[f"s{{i}}"] = shortcut.to(near.device, near.dtype)
    bridge = Bridge(shortcut)
    model.get_submodule(first).register_forward_pre_hook(bridge.keep)
    model.get_submodule(last).register_forward_hook(bridge.add)
# Build the optimizer after this, so that it trains the shortcuts too.
"""


class Bridged(Applied):
    """`AddSkips` in force.

    The projections are registered as ``model.skipgrad_shortcuts``, so they are saved with the model and trained
    by an optimizer that is built afterwards (or that `attach` is called with). Compile the model afterwards.
    """

    def __init__(self, plan: Plan, model: nn.Module, spans: tuple[Span, ...]) -> None:
        super().__init__(plan, model)
        doing = f"applying {plan.remedy}"
        learned = any(s.make for s in spans)
        if learned and any("DataParallel" in w for w in self.wrappers):
            raise RemedyRefused(
                doing,
                received=f"a model wrapped in {self.wrappers[0]}, which would not average the new shortcuts' gradients",
                todo="apply add-skips first, wrap the model afterwards",
            )
        if hasattr(self.model, REGISTERED):
            raise RemedyRefused(
                doing, received=f"a model that has {REGISTERED} already", todo="undo the earlier edit first"
            )
        self.spans = spans
        self.ends = [(locate(self.model, s.at.first, doing), locate(self.model, s.at.last, doing)) for s in spans]
        self.bridges: list[Bridge] = []
        self._handles: list[Any] = []
        self._marked: list[tuple[nn.Module, object]] = []
        self._joined: list[tuple[torch.optim.Optimizer, dict[str, Any]]] = []

    def _do(self) -> None:
        shortcuts = Shortcuts()
        for i, (span, (first, last)) in enumerate(zip(self.spans, self.ends, strict=True)):
            shortcut = None
            if span.make:
                shortcut = build(*span.make, _neighbour(last, first, self.model))
                # A path holds dots, which a module's name may not.
                shortcuts[f"s{i}_{span.at.last.replace('.', '_')}"] = shortcut
            for module in (first, last):
                self._marked.append((module, mark(module)))
            bridge = Bridge(span.at.first, span.at.last, shortcut)
            self.bridges.append(bridge)
            self._handles += [
                first.register_forward_pre_hook(bridge.keep, with_kwargs=True),
                last.register_forward_hook(bridge.add),
                self.model.register_forward_hook(bridge.clear, always_call=True),
            ]
        if len(shortcuts):
            shortcuts.train(self.model.training)
            self.model.add_module(REGISTERED, shortcuts)
        self._forget_compiled()

    def _revert(self) -> None:
        for handle in self._handles:
            handle.remove()
        for bridge in self.bridges:
            bridge.open = False
            bridge.clear()
        for module, token in reversed(self._marked):
            unmark(module, token)
        self._marked.clear()
        if REGISTERED in self.model._modules:
            delattr(self.model, REGISTERED)
        for optimizer, group in self._joined:
            for parameter in group["params"]:
                optimizer.state.pop(parameter, None)
            optimizer.param_groups[:] = [g for g in optimizer.param_groups if g is not group]
        self._handles.clear()
        self._joined.clear()
        self._forget_compiled()

    def _forget_compiled(self) -> None:
        """Compiled code does not notice new hooks: what was compiled of this model before is compiled again."""
        inside = any(compiled_call(m) is not None for m in self.model.modules())
        if inside or "OptimizedModule" in self.wrappers:
            torch.compiler.reset()

    def attach(self, optimizer: torch.optim.Optimizer) -> Bridged:
        """Gives the new parameters to an optimizer that does not have them; nothing to do when it has."""
        known = {id(p) for g in optimizer.param_groups for p in g["params"]}
        new = [p for b in self.bridges if b.shortcut is not None for p in b.shortcut.parameters() if id(p) not in known]
        if new:
            optimizer.add_param_group({"params": new})
            self._joined.append((optimizer, optimizer.param_groups[-1]))
        return self

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that y = F(x) + shortcut(x) at every place, and that no tensor is held afterwards.

        Without inputs of the model only what is held is checked.
        """
        what = "y − F(x) is the shortcut of x at every added skip"
        checks = []
        if not evidence.has_inputs:
            checks.append(Checked(what, "not applicable", reason="no example inputs given"))
        else:
            worst, ran = self._differences(evidence)
            state = "passed" if worst == 0 and ran == len(self.bridges) else "failed"
            checks.append(Checked(what, state, worst, f"{ran} of {len(self.bridges)} ran"))
        held = sum(b._x is not None for b in self.bridges)
        checks.append(Checked("no tensor is held after a forward", "failed" if held else "passed", float(held)))
        return Verification(self.plan.remedy, tuple(checks))

    def _differences(self, evidence: Evidence) -> tuple[float, int]:
        seen: dict[int, list[Any]] = {}

        def keep(i: int) -> Callable[..., None]:
            return lambda _m, args, kw: seen.__setitem__(i, [args[0] if args else next(iter(kw.values()))])

        def before(i: int) -> Callable[..., None]:
            return lambda _m, _a, out: seen[i].append(out.clone())  # it may be changed in place

        handles = []
        for i, (first, last) in enumerate(self.ends):
            handles.append(first.register_forward_pre_hook(keep(i), with_kwargs=True))
            # In front of the bridge's own hook, and behind it.
            handles.append(last.register_forward_hook(before(i), prepend=True))
            handles.append(last.register_forward_hook(before(i)))
        worst, ran = 0.0, 0
        try:
            with kept(self.model), torch.no_grad():
                evidence.run(self.model)
                for i, bridge in enumerate(self.bridges):
                    if len(seen.get(i, ())) == 3:
                        x, out, y = seen[i]
                        side = x if bridge.shortcut is None else bridge.shortcut(x)
                        worst, ran = max(worst, float((y - (out + side)).abs().max())), ran + 1
        finally:
            for handle in handles:
                handle.remove()
        return worst, ran


def _neighbour(*modules: nn.Module) -> torch.Tensor:
    """A floating-point parameter near by, whose device and dtype a new layer takes."""
    for module in modules:
        for parameter in module.parameters():
            if parameter.is_floating_point():
                return parameter
    return torch.empty(())


REMEDIES.register("add-skips", AddSkips(), rank=3)
