"""Layers whose weights get no gradient at all, and why: frozen, not run, or not reached, which is the alarm."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from skipgrad.core import Measurements

# A part of the model's top level of which no layer, of so many or more, has a gradient is a tower that somebody froze
# (a text encoder beside an image encoder), unless the ledger's account says otherwise.
TOWER = 8


@dataclass(frozen=True)
class Unreached:
    """Names of layers, in order of execution.

    Attributes:
        layers: how many weighted layers the graph has.
        frozen: their weights ask for no gradient; or, without an account, it looks as if somebody froze them.
        not_run: they did not run in any step measured; known from an account only.
        cut: they ran, their weights ask for a gradient, and none ever came. Without an account these are layers without
            a row that lie among layers that have one.
        sure: whether an account says so; rows alone do not know what asks for a gradient.
    """

    layers: int
    frozen: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    sure: bool = False


def unreached(measured: Measurements) -> Unreached | None:
    """Sorts the layers out; None where no layer was measured."""
    names = list(dict.fromkeys(layer.name.split("#")[0] for layer in measured.graph.layers))
    with_grad = {r.layer for r in measured.layers if r.weight_grad_norm is not None}
    rows = {r.layer for r in measured.layers}
    if not rows or not names or not with_grad:
        return None
    told = measured.account.layers if measured.account is not None else {}
    if told:
        return Unreached(
            len(names),
            tuple(n for n in names if told.get(n) == "frozen"),
            tuple(n for n in names if told.get(n) == "not run"),
            tuple(n for n in names if told.get(n) == "not reached" and n not in with_grad),
            sure=True,
        )
    # A row without the weight's gradient: the result has one, so that the weight does not ask for it.
    frozen = [n for n in names if n in rows and n not in with_grad]
    without = [n for n in names if n not in rows]
    first = next((i for i, n in enumerate(names) if n in rows), len(names))
    parts: dict[str, list[str]] = defaultdict(list)
    for n in names:
        parts[n.split(".")[0]].append(n)
    cut = []
    for n in without:
        part = parts[n.split(".")[0]]
        tower = len(part) >= TOWER and not rows & set(part)
        # Before the first layer that has a row nothing asks for a gradient, as behind a frozen beginning.
        if names.index(n) < first or tower:
            frozen.append(n)
        else:
            cut.append(n)
    order = {n: i for i, n in enumerate(names)}
    return Unreached(len(names), tuple(sorted(frozen, key=order.__getitem__)), (), tuple(cut))
