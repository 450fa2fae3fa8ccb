"""The spectrum as Veit et al. (2016) estimate it: random paths of each length, one backward each.

A. Veit, M. Wilber, S. Belongie: Residual Networks Behave Like Ensembles of Relatively Shallow Networks, NeurIPS 2016.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core import BadInput, MeasureError, SkipGraph
from skipgrad.core.spectrum import SampledSpectrum
from skipgrad.probes.spectrum.cuts import State
from skipgrad.probes.spectrum.exact import backward
from skipgrad.probes.spectrum.forward import forward
from skipgrad.probes.spectrum.lines import lines

DOING = "sampling gradient paths"


def sampled_spectrum(
    model: nn.Module,
    graph: SkipGraph,
    inputs: Any,
    loss_fn: Callable[[Any], Tensor],
    at: str | None = None,
    samples: int = 20,
    seed: int = 0,
) -> SampledSpectrum:
    """Estimates what `path_spectrum` measures, from `samples` random paths of every length.

    It is here for comparison. It takes `samples` backwards for each length, and its norms overstate the gradient: they
    are added up path by path, though in the gradient the paths cancel one another in part.

    Args:
        model: as for `path_spectrum`, and the next four too.
        graph: `sg.find`'s.
        inputs: what the forward takes, as a tuple or a dict.
        loss_fn: the model's output → a scalar.
        at: name of the skip whose fork is meant.
        samples: paths drawn per length, with replacement; at least two, for a standard error.
        seed: of the draw.

    Raises:
        BadInput: an argument of the wrong kind.
        MeasureError: a net in which a path is no single line (concatenations between the skips), or no gradient.
    """
    if not isinstance(samples, int) or samples < 2:
        raise BadInput(DOING, received=f"samples={samples!r}", todo="pass a whole number from 2 on")
    rng = random.Random(seed)
    with forward(model, graph, inputs, loss_fn, at, rest=True) as run:
        paths = lines(run.found, run.places)
        cuts = run.mode.cuts
        g, _ = backward(run, [(run.loss, None)])
        size = float(g.norm()) if g is not None else 0.0
        if g is None or not math.isfinite(size) or size == 0.0:
            raise MeasureError(
                DOING,
                where=f"the fork of skip {run.places.at!r}",
                received="no gradient, or one that is not finite",
                todo="a loss that depends on it, and finite weights and inputs",
            )
        counts = paths.counts[paths.first]
        columns: list[tuple[float, float, float, float]] = []
        for length, many in enumerate(counts):
            figures: list[tuple[float, float]] = []
            for _ in range(samples if many else 0):
                chosen = set(paths.draw(length, rng))
                for cut in cuts:
                    cut.state = State.PASS if (cut.skip, cut.option) in chosen else State.STOP
                c, _ = backward(run, [(run.loss, None)])
                c = torch.zeros_like(g) if c is None else c
                figures.append((float(c.norm()) / size, float((c / size * (g / size)).sum())))
            norm, norm_error = _estimate([f[0] for f in figures], many)
            part, part_error = _estimate([f[1] for f in figures], many)
            columns.append((norm, norm_error, part, part_error))
        at_name, skips = run.places.at, tuple(run.places.matches)
    norms, norm_errors, shares, share_errors = zip(*columns, strict=True)
    return SampledSpectrum(
        at=at_name,
        lengths=tuple(range(len(counts))),
        paths=tuple(counts),
        norms=norms,
        norm_errors=norm_errors,
        shares=shares,
        share_errors=share_errors,
        samples=samples,
        grad_norm=size,
        skips=skips,
    )


def _estimate(values: list[float], many: int) -> tuple[float, float]:
    """The total over `many` paths, estimated from the values of some of them; and its standard error."""
    if not values:
        return 0.0, 0.0
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return many * mean, many * math.sqrt(variance / len(values))
