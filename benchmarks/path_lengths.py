"""How long the gradient's paths are before and after training, in nets that learn well and in nets that do not.

    python benchmarks/path_lengths.py [--steps 100] [--seed 0] [--only preln]

Each net is trained at three rates and shown at the one that ends lowest: final training loss (mean of the last tenth of
the steps), signed mean path length before the first step and after the last, also as a share of the longest path,
unsigned mean, sum of the parts' norms over the gradient's, residual. What is changed in a net is the size of its
branches: the last norm's weight or the last layer's, times a factor. SG011's thresholds rest on these figures, and
claim D4 on the ResNet-56: signed mean < n/4 after training.
"""

from __future__ import annotations

import argparse
import math
import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from machine import machine, versions
from torch import nn

import skipgrad as sg
from skipgrad.core import Recipe, SkipgradError
from skipgrad.models import Workload, fit
from skipgrad.race import find_skips
from skipgrad.train import train_trial

LAST_NORM, LAST_CONV, LAST_LINEAR = r"norm2\.weight$", r"conv2\.weight$", r"(out|down)\.weight$"
DIGITS = ("digits", "sgd", (0.017, 0.05, 0.15), 64)
TEXT = ("text", "adamw", (3e-4, 1e-3, 3e-3), 8)
# Net, what of a branch is multiplied, by what.
NETS: tuple[tuple[str, tuple[Any, ...], str, tuple[float, ...]], ...] = (
    ("skipgrad:resnet8", DIGITS, LAST_NORM, (1,)),
    ("skipgrad:resnet14", DIGITS, LAST_NORM, (1,)),
    ("skipgrad:resnet20", DIGITS, LAST_NORM, (0, 0.1, 1, 3, 10)),
    ("skipgrad:resnet32", DIGITS, LAST_NORM, (1,)),
    ("skipgrad:resnet56", DIGITS, LAST_NORM, (0.1, 1, 3, 10)),
    ("skipgrad:preresnet20", DIGITS, LAST_CONV, (0.1, 1, 3, 10)),
    ("skipgrad:preresnet56", DIGITS, LAST_CONV, (1,)),
    ("skipgrad:preln12", TEXT, LAST_LINEAR, (0.1, 1, 3, 10)),
    ("skipgrad:postln12", TEXT, LAST_LINEAR, (0.1, 1, 3, 10, 30)),
)


def scaled(workload: Workload, what: str, factor: float) -> Workload:
    """The workload, with the weights whose names match multiplied."""

    def build() -> nn.Module:
        model = source.build()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if re.search(what, name):
                    weight.mul_(factor)
        return model

    source = workload.model
    changed = type("Scaled", (), {"build": staticmethod(build)})()
    return replace(workload, model=changed)


def trained(workload: Workload, settings: Recipe, graph: sg.SkipGraph) -> tuple[float, list[sg.PathSpectrum | None]]:
    """Final loss, and the spectra before and after."""
    models: list[nn.Module] = []
    spectra: list[sg.PathSpectrum | None] = []

    def measure() -> None:
        batch = workload.example
        inputs = batch.args or batch.kwargs
        try:
            spectra.append(sg.path_spectrum(models[0], graph, inputs, lambda out: workload.loss(out, batch)))
        except SkipgradError:
            spectra.append(None)

    def observe(model: nn.Module, _: Any) -> Any:
        models.append(model)
        measure()
        return nullcontext()

    result = train_trial(workload, settings, observe=observe)
    measure()
    tail = [p.loss for p in result.losses[-max(1, settings.steps // 10) :]]
    return (sum(tail) / len(tail) if result.trial.state == "done" else math.inf), spectra


def words(spectrum: sg.PathSpectrum | None) -> str:
    if spectrum is None or spectrum.unsigned_mean_length is None:
        return "not finite" + 46 * " "
    n = spectrum.longest
    return (
        f"{spectrum.mean_length:7.3f} of {n:2d} ({spectrum.mean_length / n:5.3f})  {spectrum.unsigned_mean_length:6.2f}"
        f"  {spectrum.cancellation:5.2f}  {spectrum.shares[0]:8.1e}  {spectrum.residual:7.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="nets with this in their name")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"# {machine()}; {versions('torch')}")
    only = f" --only {given.only}" if given.only else ""
    print(f"# python benchmarks/path_lengths.py --steps {given.steps} --seed {given.seed}{only}")
    head = "signed mean of longest    unsigned  Σ‖c_k‖/‖g‖  past all  residual"
    print(f"# net, factor on the branches, final loss at the best of three rates; before, after: {head}\n")
    for ref, (data, optimizer, rates, size), what, factors in NETS:
        if given.only not in ref:
            continue
        for factor in factors:
            workload = scaled(fit(ref, {}, data, batch_size=size), what, factor)
            torch.manual_seed(given.seed)
            graph = find_skips(workload.build(), workload)
            tried = []
            for rate in rates:
                settings = Recipe(
                    steps=given.steps, batch_size=size, optimizer=optimizer, lr=rate, seed=given.seed, weight_decay=0.0
                )
                tried.append((*trained(workload, settings, graph), rate))
            loss, spectra, rate = min(tried, key=lambda t: t[0])
            print(f"{ref} ×{factor:g}: loss {loss:.4g} at {rate:g}")
            print(f"    before {words(spectra[0])}\n    after  {words(spectra[1])}", flush=True)


if __name__ == "__main__":
    main()
