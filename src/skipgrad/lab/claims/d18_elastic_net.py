"""D18: the elastic net is sparse and stable: duplicated columns share their weight, where the lasso picks one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skipgrad.core.units import number
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS

ROWS, COLUMNS, USED, STEPS = 120, 12, 4, 20_000
L1, L2 = 0.1, 0.1
EQUAL, APART = 1e-6, 0.1


def data(seed: int) -> tuple[Tensor, Tensor]:
    """Columns of which the last is a copy of the first; the target needs the first few."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, COLUMNS, generator=g, dtype=torch.float64)
    x[:, -1] = x[:, 0]
    weights = torch.zeros(COLUMNS, dtype=torch.float64)
    weights[:USED] = torch.tensor([3.0, -2.0, 1.5, 1.0], dtype=torch.float64)
    return x, x @ weights + 0.1 * torch.randn(ROWS, generator=g, dtype=torch.float64)


def fitted(x: Tensor, y: Tensor, l1: float, l2: float, start: Tensor) -> Tensor:
    """Minimises ‖y − xw‖²/2n + l1·|w| + l2·w² by proximal gradient steps from a start."""
    w = start.clone()
    rate = 1 / float(torch.linalg.matrix_norm(x.T @ x / len(x), 2))
    for _ in range(STEPS):
        w = w - rate * (x.T @ (x @ w - y)) / len(x)
        w = w.sign() * (w.abs() - rate * l1).clamp(min=0) / (1 + 2 * rate * l2)
    return w


def one_seed(setting: Setting) -> Values:
    """Both penalties, from a start that favours one of the twins."""
    x, y = data(setting.seed)
    start = torch.zeros(COLUMNS, dtype=torch.float64)
    start[0] = 1.0
    setting.say("the elastic net")
    elastic = fitted(x, y, L1, L2, start)
    setting.say("the lasso")
    lasso = fitted(x, y, L1, 0.0, start)
    used = torch.arange(COLUMNS).lt(USED) | torch.arange(COLUMNS).eq(COLUMNS - 1)
    return {
        "elastic net: difference of the twins": float((elastic[0] - elastic[-1]).abs()),
        "lasso: difference of the twins": float((lasso[0] - lasso[-1]).abs()),
        "elastic net: unused weights that are exactly 0": float((elastic[~used] == 0).double().mean()),
        "lasso: unused weights that are exactly 0": float((lasso[~used] == 0).double().mean()),
    }


def judge(values: Values) -> bool:
    """Twins alike and zeros exact."""
    stable = (
        values["elastic net: difference of the twins"] <= EQUAL and values["lasso: difference of the twins"] >= APART
    )
    return stable and values["elastic net: unused weights that are exactly 0"] >= 0.5


def sentence(figures: Sequence[Figure]) -> str:
    """Differences and zeros."""
    at = {n: number(middle(figures, n)) for n in figures[0].values}
    zeros = number(100 * middle(figures, "elastic net: unused weights that are exactly 0"))
    return (
        f"Two equal columns get weights that differ by {at['elastic net: difference of the twins']} under the "
        "elastic net "
        f"and by {at['lasso: difference of the twins']} under the lasso; {zeros} % of the unused weights are exactly 0 "
        "under the elastic net."
    )


CLAIM = Claim(
    id="D18",
    title="The elastic net is sparse and stable",
    statement="λ₁|w| + λ₂w² makes weights exactly zero, as |w| does, and gives columns that say the same the same "
    "weight, "
    "as |w| does not.",
    anchor="prostate cancer test error: least squares .586, ridge .566, lasso .499, elastic net .381 (Zou & Hastie "
    "2005)",
    criterion=f"duplicated columns: weights within {EQUAL:g} under the elastic net, ≥ {APART:g} apart under the "
    "lasso; at "
    "least half of the unused weights exactly 0",
    refutes="twins that differ, or no zeros",
    setting=f"{ROWS} rows, {COLUMNS} columns of which {USED} are used and one is a copy, λ₁ = {L1:g}, λ₂ = {L2:g}, "
    "proximal "
    "gradient, float64",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        ["elastic net: difference of the twins", "lasso: difference of the twins"],
        "difference of two weights of equal columns",
    ),
    topic="regularization",
    duration="2 s",
    not_on_model="`skipgrad train --set l1=… --set l2=…` applies it to your net's weights",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=118)
