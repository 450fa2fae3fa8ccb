"""A3: a gradient of 1e-15 times a rate of 1e-4 is an update that does nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import digits
from skipgrad.ledger import watch

RATE, BATCH = 1e-4, 64
NETS = {"plain56": "plain net, 56 layers", "resnet56": "ResNet-56"}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STALLED, MOVES, SAME = 0.99, 0.5, 1e-6  # a share is kept in float32


def share_stalled(weights: Tensor, update: Tensor) -> float:
    """Share of weights that an update leaves as they are, bit for bit, by adding it in their own format."""
    return float(((weights + update.to(weights.dtype)) == weights).float().mean())


def one_seed(setting: Setting) -> Values:
    """The first layer's share of stalled weights in one SGD step at a rate of 1e-4, by the ledger and by adding."""
    values: Values = {}
    for net, name in NETS.items():
        setting.say(name)
        workload = digits(f"skipgrad:{net}", {"norm": "none", "width": 8}, BATCH)
        with kept_random(torch.device("cpu")):
            seed_all(setting.seed)
            model = workload.build()
        batch = next(workload.batches(setting.seed))
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        graph = find(model, *batch.args)
        before = model.get_parameter("conv.weight").detach().clone()
        with watch(model, graph, optimizer, budget=None) as ledger:
            workload.loss(model(*batch.args), batch).backward()
            grad = model.get_parameter("conv.weight").grad
            assert grad is not None
            gradient = grad.clone()
            optimizer.step()
            first = next(r for r in ledger.measurements().layers if r.layer == "conv")
        after = model.get_parameter("conv.weight").detach()
        values[f"{name}: gradient RMS of the first layer"] = float(gradient.square().mean().sqrt())
        values[f"{name}: stalled share in float32, ledger"] = (first.stalled or 0.0) + (first.zero_grad or 0.0)
        values[f"{name}: stalled share in float32, weights compared"] = float((before == after).float().mean())
        for kind, dtype in TYPES.items():
            values[f"{name}: stalled share in {kind}"] = share_stalled(before.to(dtype), -RATE * gradient)
    values["ledger minus truth"] = max(
        abs(
            values[f"{n}: stalled share in float32, ledger"]
            - values[f"{n}: stalled share in float32, weights compared"]
        )
        for n in NETS.values()
    )
    return values


def judge(values: Values) -> bool:
    """All of the plain net's weights stall, the residual one's move in float32; and the ledger says so."""
    plain, residual = NETS.values()
    stalls = values[f"{plain}: stalled share in float32"] >= STALLED
    moves = values[f"{residual}: stalled share in float32"] <= MOVES
    return stalls and moves and values["ledger minus truth"] <= SAME


def sentence(figures: Sequence[Figure]) -> str:
    """Gradients and shares."""
    told: list[str] = []
    for name in NETS.values():
        rms = number(middle(figures, f"{name}: gradient RMS of the first layer"))
        shares = " / ".join(number(100 * middle(figures, f"{name}: stalled share in {kind}")) for kind in TYPES)
        told.append(f"{name}: {shares} % (gradient RMS {rms})")
    kinds = " / ".join(TYPES)
    return (
        f"Weights of the first layer that a step at a rate of {RATE:g} leaves as they were, {kinds}: {'; '.join(told)}."
    )


CLAIM = Claim(
    id="A3",
    title="An update that does nothing",
    statement="An update below half a unit in the last place of its weight does nothing; where the gradient "
    "vanishes, whole "
    "layers stall, whatever the number of steps.",
    anchor="a gradient of 1e-15 at a rate of 1e-4 is an update of 1e-19; float32 has 24 bits",
    criterion=f"first layer of a plain net of 56 layers: ≥ {STALLED:g} of its weights unchanged by a step in "
    "float32; of "
    f"ResNet-56: ≤ {MOVES:g}; the ledger's share equal to that found by comparing the weights",
    refutes="weights of the plain net that move",
    setting=f"nets of width 8 without norms as PyTorch draws them, digits, one step of SGD at {RATE:g}",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        [f"{name}: stalled share in {kind}" for name in NETS.values() for kind in TYPES],
        "share of weights that a step leaves as they are",
    ),
    caution="The size of the gradient alone does not say it: an adaptive optimizer divides by it, and rounding "
    "depends on "
    "the weight.",
    topic="gradient",
    duration="2 s",
    not_on_model="the ledger counts it in every watched training: `skipgrad check MODEL`",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=3)
