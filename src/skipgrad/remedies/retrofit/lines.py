"""A retrofit as code to paste, which needs torch and nothing else."""

from __future__ import annotations

import inspect
import re
from typing import Any

from skipgrad.remedies.retrofit import rewrite
from skipgrad.remedies.retrofit.design import Design


def lines_of(design: Design) -> str:
    """The module `rewrite` itself, a table of the places, and what puts the one into the others."""
    table: dict[str, list[tuple[Any, ...]]] = {}
    for spot, make in design.edits:
        p = spot.place
        table.setdefault(p.module, []).append((p.name, p.number, p.position, *make))
    rows = "\n".join(f"    {path!r}: {edits!r}," for path, edits in table.items())
    text = [_source(), _PLACES.format(rows=rows)]
    if design.values:
        values = [(v.name, v.factor, v.fill, float(v.start)) for v in design.values]
        text.append(_VALUES.format(values=values))
    if design.unnormed:
        text.append(_UNNORMED.format(norms=list(design.unnormed)))
    if design.moved:
        text.append(_MOVED.format(norms=[(m.path, m.last) for m in design.moved]))
    return "\n".join(text)


def _source() -> str:
    return re.sub(r"  # type: ignore\S*( \S+)?$", "", inspect.getsource(rewrite), flags=re.MULTILINE)


_PLACES = """
# module → (function, number of the call in its forward, tensor of the call, edit, its arguments)
PLACES: dict = {{
{rows}
}}
near = next(model.parameters())
for path, places in PLACES.items():
    owner = model.get_submodule(path)
    edits, at = Edits(), {{}}
    for i, (name, number, position, edit, arguments) in enumerate(places):
        if edit == "Normed":
            arguments = {{"norm": model.get_submodule(arguments["norm"]).forward}}
        edits[str(i)] = globals()[edit](**arguments)
        at.setdefault(name, {{}}).setdefault(number, {{}})[position] = str(i)
    owner.edits = edits.to(near.device, near.dtype).train(owner.training)
    mode = AtCalls(edits, at, path)
    owner.forward = lambda *args, _mode=mode, _forward=owner.forward, **kwargs: _mode.around(_forward, args, kwargs)
# Build the optimizer after this, so that it trains what is new too.
"""

_VALUES = """
with torch.no_grad():
    for name, factor, fill, start in {values!r}:
        parameter = model.get_parameter(name)
        part = parameter[round(parameter.shape[0] * start):] if start else parameter
        part.fill_(fill) if factor is None else part.mul_(factor)
"""

_UNNORMED = """

def scale_and_shift(forward, *args, **kwargs):
    with ScaleAndShift():
        return forward(*args, **kwargs)


for path in {norms!r}:
    norm = model.get_submodule(path)
    norm.forward = lambda *args, _forward=norm.forward, **kwargs: scale_and_shift(_forward, *args, **kwargs)
"""

_MOVED = """
import copy

for path, last in {norms!r}:
    norm = model.get_submodule(path)
    final = []
    if last:
        final.append(copy.deepcopy(norm))
        final[0].__dict__.pop("forward", None)
        final[0].reset_parameters()
        model.final_norm = Edits({{"final": final[0]}})
    norm.forward = lambda x, _final=final: _final[0](x) if _final else x
"""
