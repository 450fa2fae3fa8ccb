"""hyper-connections: several residual streams in place of one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import nn

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.instrument.wrappers import locate
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.plan import Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Checked, Edit, Left, Verification
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import rewrite, streams
from skipgrad.remedies.retrofit.design import SAME, short_add
from skipgrad.remedies.retrofit.grafted import Grafted

_BLOCK = re.compile(r"(^|.*[._])\d+$")


class HyperConnections(Remedy):
    """n streams h_1 … h_n around every block: x = Σ read_j h_j, h_i ← Σ_j mix_ij h_j + write_i (block(x) − x).

    The static form, with the blocks of the net as branches. The streams start alike and are read, mixed and written so
    that the net's output is what it was; their mean is what leaves the last block.

    Paper: Zhu et al. 2024, Hyper-connections (arXiv:2409.19606).

    Args:
        num_residual_streams: n; 4 in the paper.
    """

    name: ClassVar[str] = "hyper-connections"
    title: ClassVar[str] = "Several residual streams in place of one"
    kind: ClassVar[RemedyKind] = "model"
    by_default: ClassVar[bool] = False

    def __init__(self, num_residual_streams: int = 4) -> None:
        if num_residual_streams < 1:
            raise BadInput(
                "setting up hyper-connections",
                where="num_residual_streams",
                received=str(num_residual_streams),
                todo="give at least 1",
            )
        self.num_residual_streams = num_residual_streams

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        chains, left = _chains(graph)
        if not chains:
            raise refusal(self.name, f"no two blocks in a row among {len(graph)} skips", left)
        n = self.num_residual_streams
        edits = tuple(
            Edit(
                path,
                f"{n} streams around it",
                ", ".join(s.name for s in skips),
                "x + F(x)",
                "H_res·h + H_post·F(H_pre·h)",
            )
            for chain in chains
            for path, skips in chain.items()
        )
        paths = tuple(tuple(chain) for chain in chains)
        shapes = tuple(next(iter(chain.values()))[0].fork_shape for chain in chains)
        lines = _LINES.format(source=_source(), n=n, chains=[(list(c), s) for c, s in zip(paths, shapes, strict=True)])
        return Plan(
            self.name, edits, tuple(left), lines, lambda plan, model: Streamed(plan, model, paths, shapes, n), SAME
        )


def _chains(graph: SkipGraph) -> tuple[list[dict[str, list[Skip]]], list[Left]]:
    """Runs of blocks, each a module that the one before it hands its output to; and the skips that are in none."""
    left: list[Left] = []
    blocks: dict[str, list[Skip]] = {}
    home: dict[str, str] = {}
    for skip in graph.skips:
        reason = short_add(skip)
        path = _block_of(skip.owner)
        if reason is None and path is None:
            reason = "it is in no numbered block"
        if reason is None and skip.fork_shape != skip.merge_shape:
            reason = "it changes the shape"
        if reason is not None or path is None:
            left.append(Left(skip.name, reason or ""))
            continue
        blocks.setdefault(path, []).append(skip)
        home[skip.name] = path
    chains: list[dict[str, list[Skip]]] = []
    for path, skips in blocks.items():
        before = home.get(skips[0].previous or "")
        last = next(reversed(chains[-1])) if chains else None
        linked = before is not None and before == last and _parent(before) == _parent(path)
        if linked and not any("#" in s.name.replace(f"{s.owner}#", "", 1) for s in skips):
            chains[-1][path] = skips
        else:
            chains.append({path: skips})
    for chain in chains:
        if len(chain) == 1:
            left += [Left(s.name, "its block has no like before or behind it") for b in chain.values() for s in b]
    return [c for c in chains if len(c) > 1], left


def _block_of(owner: str) -> str | None:
    """The innermost module around a merge whose name ends in a number; the whole of a run of such is one block."""
    parts = owner.split(".")
    for end in range(len(parts), 0, -1):
        if _BLOCK.match(parts[end - 1]):
            return ".".join(parts[:end])
    return None


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


class Streamed(Grafted):
    """`HyperConnections` in force."""

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        paths: tuple[tuple[str, ...], ...],
        shapes: tuple[tuple[int, ...], ...],
        n: int,
    ) -> None:
        super().__init__(plan, model)
        doing = f"applying {plan.remedy}"
        self.blocks = [[(path, locate(self.model, path, doing)) for path in chain] for chain in paths]
        self.shapes, self.n = shapes, n
        self.chains: list[streams.Chain] = []

    def _do(self) -> None:
        for blocks, shape in zip(self.blocks, self.shapes, strict=True):
            chain = streams.Chain(self.n)
            self.chains.append(chain)
            for i, (path, block) in enumerate(blocks):
                held = rewrite.Edits({"0": streams.HyperConnection(self.n, i)})
                self._hold(block, path, held)
                around = partial(_around, None if i else shape, i == len(blocks) - 1, path)
                self._mark(block, around, skipgrad_chain=chain, skipgrad_streams=[held["0"]])
        self._forget_compiled()

    def _revert(self) -> None:
        for chain in self.chains:
            chain.open = False
        self.chains.clear()
        super()._revert()

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that the output is what it was, and that no tensor is held after a forward."""
        if not evidence.has_inputs:
            what = "the output is the same in evaluation mode"
            return Verification(self.plan.remedy, (Checked(what, "not applicable", reason="no example inputs given"),))
        after = self._run(evidence)
        held = sum(len(c.streams) for c in self.chains)
        for chain in self.chains:
            chain.open = False
        try:
            before = self._run(evidence)
        finally:
            for chain in self.chains:
                chain.open = True
        kept = Checked("no tensor is held after a forward", "failed" if held else "passed", float(held))
        return Verification(self.plan.remedy, (self._same(after, before), kept))


def _around(
    shape: tuple[int, ...] | None,
    last: bool,
    path: str,
    module: nn.Module,
    forward: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    chain: streams.Chain = vars(module)["skipgrad_chain"]
    connection = vars(module)["skipgrad_streams"][0]
    return chain.around(connection, shape, last, path, forward, args, kwargs)


def _source() -> str:
    return re.sub(r"  # type: ignore\S*( \S+)?$", "", inspect.getsource(streams), flags=re.MULTILINE)


_LINES = """{source}

near = next(model.parameters())
for paths, shape in {chains!r}:
    chain = Chain({n})
    for i, path in enumerate(paths):
        block = model.get_submodule(path)
        connection = HyperConnection({n}, i).to(near.device, near.dtype)
        block.add_module("hyper_connection", connection)
        at = (connection, None if i else shape, i == len(paths) - 1, path, block.forward)
        block.forward = lambda *args, _chain=chain, _at=at, **kwargs: _chain.around(*_at, args, kwargs)
# Build the optimizer after this, so that it trains what is new too.
"""


REMEDIES.register("hyper-connections", HyperConnections(), rank=19)
