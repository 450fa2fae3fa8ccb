"""layerscale: a learned scale for each channel of every branch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.records import Left
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.design import Design, Make, short_add
from skipgrad.remedies.retrofit.places import Spot


class LayerScale(Retrofit):
    """y = x + γ⊙F(x) with a learned γ for each channel, small at the start.

    Paper: Touvron et al. 2021, Going deeper with image transformers (arXiv:2103.17239): 0.1 up to 18 blocks, 1e-5 up to
    24, 1e-6 beyond.

    Args:
        init_values: γ at the start. With 1 the net's output is what it was.
    """

    name: ClassVar[str] = "layerscale"
    title: ClassVar[str] = "A learned scale for each channel of every branch"
    knobs: ClassVar[Mapping[str, Knob]] = {"init_values": Span(1e-5, 1.0, log=True)}

    def __init__(self, init_values: float = 1e-5) -> None:
        if not math.isfinite(init_values):
            raise BadInput(
                "setting up layerscale",
                where="init_values",
                received=str(init_values),
                todo="give a number such as 1e-5",
            )
        self.init_values = float(init_values)

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, short_add)
        edits: list[tuple[Spot, Make]] = []
        for spot in found:
            if spot.axis is None:
                left += [Left(s, "it is not known which dimension holds its channels") for s in spot.skips]
                continue
            arguments: dict[str, Any] = {"width": spot.width, "axis": spot.axis, "start": self.init_values}
            edits.append((spot, ("ChannelScale", arguments)))
        return Design(tuple(edits), left=tuple(left), same=self.init_values == 1)

    def form(self, design: Design) -> tuple[str, str]:
        return "x + F(x)", "x + γ⊙F(x)"


REMEDIES.register("layerscale", LayerScale(), rank=12)
