"""How a rate that was tuned on a shallow net does on a deep one, with depth-transfer and without.

For each case a shallow net, the deep one and the deep one with depth-transfer are trained at five rates, two apart;
a rate's loss is the mean of the last tenth of the steps, over two seeds. Told are the best rate of each, and what
the shallow net's best rate costs the deep one: its loss there less the loss at the deep net's own best rate.

    python benchmarks/transfer.py [--case NAME …] [--rows FILE]

With ``--mup`` (the package must be importable): that muP, which carries a rate over width, is the standard
parametrisation at the width of its base, whatever the depth, so that it has nothing to say here.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions

from skipgrad.core import Recipe
from skipgrad.models import fit
from skipgrad.race import prepare_with
from skipgrad.train import train_trial

TEXT = Recipe(steps=80, batch_size=8, optimizer="adamw", lr=1e-3)
IMAGES = Recipe(steps=80, batch_size=32, optimizer="sgd", lr=0.05)
SEEDS = (0, 1)


@dataclass(frozen=True)
class Case:
    """What is carried where: references of the two nets, and what depth-transfer is told."""

    shallow: str
    deep: str
    tuned_at: int
    data: str = "text"
    recipe: Recipe = TEXT
    args: dict[str, Any] = field(default_factory=dict)
    factors: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)  # on the recipe's rate


PRELN = Case("skipgrad:preln3", "skipgrad:preln12", 6)
CASES = {
    "preln 3 to 12": PRELN,
    "from 6": replace(PRELN, shallow="skipgrad:preln6", tuned_at=12),
    "width 128": replace(PRELN, args={"d_model": 128}),
    "weight decay .1": replace(PRELN, recipe=replace(TEXT, weight_decay=0.1)),
    "240 steps": replace(PRELN, recipe=replace(TEXT, steps=240)),
    "SGD, resnet 20 to 56": Case(
        "skipgrad:resnet20", "skipgrad:resnet56", 7, "digits", IMAGES, factors=(0.25, 0.5, 1.0, 2.0, 4.0)
    ),
    "postln 3 to 12": replace(PRELN, shallow="skipgrad:postln3", deep="skipgrad:postln12"),
}


def losses(ref: str, case: Case, remedy: dict[str, Any] | None = None) -> list[float]:
    """The loss at each rate; infinite where a run diverged."""
    out = []
    for factor in case.factors:
        found = []
        for seed in SEEDS:
            work = fit(ref, case.args, case.data, batch_size=case.recipe.batch_size)
            prepare = prepare_with("depth-transfer", work, options=remedy) if remedy else None
            recipe = replace(case.recipe, lr=case.recipe.lr * factor, seed=seed)
            result = train_trial(work, recipe, prepare=prepare)
            last = [p.loss for p in result.losses][-max(1, recipe.steps // 10) :]
            whole = len(result.losses) == recipe.steps
            found.append(sum(last) / len(last) if whole and all(map(math.isfinite, last)) else math.inf)
        out.append(sum(found) / len(found))
    return out


def told(case: Case, shallow: list[float], deep: list[float], carried: list[float]) -> list[str]:
    """Lines on a case."""
    best = min(range(len(case.factors)), key=shallow.__getitem__)
    lines = []
    for name, found in (("shallow", shallow), ("deep", deep), ("deep, depth-transfer", carried)):
        at = min(range(len(case.factors)), key=found.__getitem__)
        edge = " (the grid's edge)" if at in (0, len(case.factors) - 1) else ""
        curve = " ".join(f"{v:.3f}" for v in found)
        extra = (
            "" if found is shallow else f"; at the shallow net's rate {found[best]:.3f}, {found[best] - found[at]:+.3f}"
        )
        lines.append(f"  {name:21} {curve}   best at {case.recipe.lr * case.factors[at]:g}{edge}{extra}")
    return lines


def mup_is_standard() -> str:
    """Trains the same net as it is and parametrised by mup at its own width; whether all losses have the same bits."""
    import mup
    from torch import nn

    def built(width: int, readout: bool) -> nn.Module:
        net = fit("skipgrad:preln12", {"d_model": width}, "text", batch_size=8).build()
        if readout:  # mup wants its own class for the last layer
            head = mup.MuReadout(width, net.head.out_features, readout_zero_init=False)
            head.load_state_dict(net.head.state_dict())
            net.head = head
        return net

    def run(by_mup: bool) -> list[float]:
        torch.manual_seed(0)
        work, net = fit("skipgrad:preln12", {}, "text", batch_size=8), built(64, by_mup)
        if by_mup:
            mup.set_base_shapes(net, built(64, True), delta=built(32, True), rescale_params=False)
        make: Any = mup.MuAdamW if by_mup else torch.optim.AdamW
        optimizer = make(net.parameters(), lr=1e-3, weight_decay=0.01)
        out = []
        for _, batch in zip(range(10), work.batches(0), strict=False):
            optimizer.zero_grad()
            loss = work.loss(net(*batch.args), batch)
            loss.backward()
            optimizer.step()
            out.append(float(loss.detach()))
        return out

    one, two = run(False), run(True)
    return (
        "the same to the bit"
        if one == two
        else f"they differ by up to {max(abs(a - b) for a, b in zip(one, two, strict=True)):.2g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--rows", type=Path, help="where finished cases are kept: they are not run again")
    parser.add_argument("--mup", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; {versions('torch')}; mean of the last tenth of the losses, {len(SEEDS)} seeds\n")
    if given.mup:
        print(f"mup at the width of its base, ten steps of AdamW on preln12: losses {mup_is_standard()}\n", flush=True)
    kept = json.loads(given.rows.read_text()) if given.rows and given.rows.exists() else {}
    for name in given.case or CASES:
        case = CASES[name]
        if name not in kept:
            options = {"tuned_at": case.tuned_at}
            kept[name] = [losses(case.shallow, case), losses(case.deep, case), losses(case.deep, case, options)]
            if given.rows:
                given.rows.write_text(json.dumps(kept))
        rates = ", ".join(f"{case.recipe.lr * f:g}" for f in case.factors)
        print(f"{name} ({case.recipe.optimizer}, {case.recipe.steps} steps; rates {rates})")
        print(*told(case, *kept[name]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
