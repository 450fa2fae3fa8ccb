"""The exact spectrum: one backward per path length, each starting where the cuts caught the one before.

If every branch were multiplied by a number t, the gradient at the fork would be a polynomial g(t) = Σ c_k t^k, where
c_k is what comes along paths through k branches. Its coefficients are found in order. In a first backward every cut
catches, so that only paths of length 0 reach the fork: that is c_0. What the cuts caught is sent on, through their
branches up to the next cuts: what reaches the fork now is c_1. So it goes on until nothing is caught.

Every backward starts nearer to the fork than the one before, so that n of them cost about as much as n/2 whole ones.
Any op that has a backward will do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core import BadInput, MeasureError, SkipGraph
from skipgrad.core.spectrum import PathSpectrum
from skipgrad.probes.spectrum.cuts import Cut, State
from skipgrad.probes.spectrum.forward import DOING, CutForward, check_arguments, forward


def path_spectrum(
    model: nn.Module,
    graph: SkipGraph,
    inputs: Any,
    loss_fn: Callable[[Any], Tensor],
    at: str | None = None,
    max_length: int | None = None,
) -> PathSpectrum:
    """The share of the gradient at a fork by path length, exactly: the number of branches it came through.

    Runs one forward of the model as it is (mode, weights, dtype) and about n/2 backwards for n skips in a row. Model,
    buffers, ``.grad`` and random states are as before afterwards. In float32 the residual is about 1e-6 times
    the spectrum's `cancellation`; take ``model.double()`` where that matters.

    Args:
        model: any module in which `sg.find` found add skips.
        graph: `sg.find`'s; its add skips count, and no others.
        inputs: what the forward takes, as a tuple; or as a dict, by name.
        loss_fn: the model's output → a scalar.
        at: name of the skip whose fork is meant; the add skip whose fork comes first when None.
        max_length: longer paths are left together. 0 costs four backwards, and has the mean length all the same.

    Returns:
        The `PathSpectrum`. Where there is no gradient to sort it is one without lengths, whose ``reason`` says why: a
        net without add skips, a last layer that starts at zero (Fixup, a zeroed head), a gradient that is not finite.
        Such a record may be given to `Ledger.spectrum` like any other.

    Raises:
        BadInput: an argument of the wrong kind.
        MeasureError: a skip that cannot be cut at, a forward that makes other calls at each run, a loss without a
            gradient.

    Example:
        >>> import skipgrad as sg, torch, torchvision
        >>> model, x = torchvision.models.resnet18().double(), torch.randn(2, 3, 64, 64).double()
        >>> spectrum = sg.path_spectrum(model, sg.find(model, x), (x,), torch.sum)
        >>> spectrum.lengths, spectrum.residual < 1e-10
        ((0, 1, 2, 3, 4, 5, 6, 7, 8), True)
    """
    if max_length is not None and (not isinstance(max_length, int) or max_length < 0):
        raise BadInput(DOING, received=f"max_length={max_length!r}", todo="pass a whole number from 0 on, or None")
    check_arguments(model, graph, inputs)
    if at is None and not graph.count("add"):
        return PathSpectrum.nothing(
            "the net has no add skips, so that all of the gradient's paths have no branch on them, and there is "
            "nothing to "
            "tell apart"
        )
    with forward(model, graph, inputs, loss_fn, at) as run:
        return _measure(run, max_length)


def _measure(run: CutForward, max_length: int | None) -> PathSpectrum:
    cuts = run.mode.cuts
    _switch(cuts, State.BOTH)
    g, caught = backward(run, [(run.loss, None)])
    if g is None:
        return PathSpectrum.nothing("no gradient reaches the fork: the loss does not depend on it", run.places.at)
    if not bool(torch.isfinite(g).all()):
        return PathSpectrum.nothing("the gradient at the fork is not finite", run.places.at)
    size = float(g.norm())
    if size == 0.0:
        return PathSpectrum.nothing(f"the gradient at the fork is zero{run.zeros()}", run.places.at)
    # The mean length without the single lengths: when all that every cut caught is sent on at once, each path counts
    # once for every cut on it, and what arrives at the fork is Σ k·c_k.
    _switch(cuts, State.PASS)
    weighted, _ = backward(run, caught)
    unit = g / size
    norms: list[float] = []
    shares: list[float] = []
    total = torch.zeros_like(g)

    def share(c: Tensor | None) -> tuple[float, float]:
        if c is None:
            return 0.0, 0.0
        return float(c.norm()), float((c / size * unit).sum())

    # One pass per length, from 0 on: what the cuts catch is where the next pass starts.
    _switch(cuts, State.CATCH)
    roots: list[tuple[Any, Tensor | None]] = [(run.loss, None)]
    while roots and (max_length is None or len(norms) <= max_length):
        c, roots = backward(run, roots)
        if c is not None:
            total += c
        norm, part = share(c)
        norms.append(norm)
        shares.append(part)
    _switch(cuts, State.PASS)
    longer = backward(run, roots)[0] if roots else None
    if longer is not None:
        total += longer
    longer_norm, longer_share = share(longer)
    shown = run.mode.fork_of
    assert shown is not None
    notes = [*run.notes]
    notes += [f"no gradient comes back through a branch of {n}" for n in dict.fromkeys(run.mode.dead)]
    return PathSpectrum(
        at=run.places.at,
        lengths=tuple(range(len(norms))),
        norms=tuple(norms),
        shares=tuple(shares),
        longer_norm=longer_norm,
        longer_share=longer_share,
        grad_norm=size,
        mean_length=share(weighted)[1],
        residual=float((total - g).norm()) / size,
        branches=sum(len(m.branches) for m in run.places.matches.values()),
        skips=tuple(run.places.matches),
        unsplit=run.places.unsplit,
        notes=tuple(notes),
        dtype=str(shown.dtype).removeprefix("torch."),
    )


def _switch(cuts: list[Cut], state: State) -> None:
    for cut in cuts:
        cut.state = state


def backward(
    run: CutForward, roots: list[tuple[Any, Tensor | None]]
) -> tuple[Tensor | None, list[tuple[Any, Tensor | None]]]:
    """Runs one backward.

    Args:
        run: the forward.
        roots: (where to start, the gradient to start with) for each start; a gradient of None is the loss's own, 1.

    Returns:
        The gradient at the fork in float64, None when none arrived; and what the cuts caught, as roots of a next one.

    Raises:
        MeasureError: autograd refuses to run it.
    """
    fork = run.mode.fork
    assert fork is not None
    if not roots:
        return None, []
    inputs: list[Any] = [fork, *(c.probe for c in run.mode.cuts)]
    try:
        grads = torch.autograd.grad(
            [root for root, _ in roots], inputs, [grad for _, grad in roots], retain_graph=True, allow_unused=True
        )
    except RuntimeError as error:
        raise MeasureError(
            DOING,
            where="one of the backwards it takes",
            received=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            todo="the model must allow torch.autograd.grad, several times through one forward",
        ) from error
    caught = [(cut.before, grad) for cut, grad in zip(run.mode.cuts, grads[1:], strict=True) if grad is not None]
    at_fork = grads[0].double() if grads[0] is not None else None
    return at_fork, list(caught)
