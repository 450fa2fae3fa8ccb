"""A1: dL/dx = dL/dy·(1 + ∂F/∂x), its two terms apart, at every skip: the ledger against brute force."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core.run import SkipRow
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.ledger import watch

BOUND = 1e-10


class Forking(nn.Module):
    """A block whose forward takes x twice: for the shortcut and for the branch.

    In use both are x itself. Brute force hands it two copies and differentiates by each.
    """

    copies: tuple[Tensor, Tensor] | None = None
    brute = False

    def fork(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x for the shortcut, x for the branch."""
        if not self.brute:
            return x, x
        self.copies = x.clone(), x.clone()
        return self.copies


class Added(Forking):
    """shortcut(x) + F(x) with an identity, a scaled or a projected shortcut."""

    def __init__(self, width: int, shortcut: str = "identity") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.kind = shortcut
        self.projection = nn.Conv2d(width, width, 1) if shortcut == "projection" else None

    def forward(self, x: Tensor) -> Tensor:
        short, long = self.fork(x)
        if self.projection is not None:
            short = self.projection(short)
        elif self.kind == "scaled":
            short = 0.7 * short
        return short + self.conv2(F.relu(self.conv1(self.norm(long))))


class Concatenated(Forking):
    """cat(x, F(x))."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, growth, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        short, long = self.fork(x)
        return torch.cat([short, torch.tanh(self.conv(long))], 1)


class EverySkip(nn.Module):
    """One skip of each form, one behind another, and a head."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, 1, 1)
        self.identity = Added(width)
        self.scaled = Added(width, "scaled")
        self.projected = Added(width, "projection")
        self.concatenated = Concatenated(width, 3)
        self.after = Added(width + 3)
        self.head = nn.Linear(width + 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.concatenated(self.projected(self.scaled(self.identity(torch.tanh(self.stem(x))))))
        return self.head(torch.tanh(self.after(x)).mean((2, 3)))


def brute_force(model: nn.Module, loss: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """S and B of each `Forking` block, by `torch.autograd.grad` with respect to its two copies of x."""
    blocks = {name: m for name, m in model.named_modules() if isinstance(m, Forking)}
    found = {}
    for name, block in blocks.items():
        assert block.copies is not None
        found[name] = torch.autograd.grad(loss, block.copies, retain_graph=True)
    return found


def disagreement(row: SkipRow, short: Tensor, branch: Tensor) -> dict[str, float]:
    """Relative errors of a ledger row's ‖S‖, ‖B‖ and ‖S+B‖, and the error of its cosine."""
    s, b, total = short.norm(), branch.norm(), (short + branch).norm()
    cosine = (short * branch).sum() / (s * b)
    return {
        "skip": float((row.skip_norm - s).abs() / s),
        "branch": float((row.branch_norm - b).abs() / b),
        "sum": float((row.total_norm - total).abs() / total),
        "cosine": float((row.cosine - cosine).abs()),
    }


def one_seed(setting: Setting) -> Values:
    """The ledger and brute force at five skips of five forms, in float64. There is no quicker version."""
    with kept_random(torch.device("cpu")):
        seed_all(setting.seed)
        model = EverySkip().double().train()
        x, y = torch.randn(6, 2, 6, 6, dtype=torch.float64), torch.randint(5, (6,))
    graph = find(model, x)
    model.zero_grad(set_to_none=True)
    with watch(model, graph, budget=None) as ledger:
        F.cross_entropy(model(x), y).backward()
    rows = {row.skip: row for row in ledger.rows()}
    for block in model.modules():
        if isinstance(block, Forking):
            block.brute = True
    truth = brute_force(model, F.cross_entropy(model(x), y))
    missing = len(set(truth) - set(rows)) + len(set(rows) - set(truth))
    errors = [disagreement(rows[name], *truth[name]) for name in truth if name in rows]
    worst = {key: max((e[key] for e in errors), default=float("inf")) for key in ("skip", "branch", "sum", "cosine")}
    return {"skips": len(truth), "missing": missing, **{f"{k} error": v for k, v in worst.items()}}


def judge(values: Values) -> bool:
    """Every skip is there, and none is further off than the bound."""
    return not values["missing"] and max(v for k, v in values.items() if k.endswith("error")) <= BOUND


def sentence(figures: Sequence[Figure]) -> str:
    """How far off the worst is."""
    worst = max(v for f in figures for k, v in f.values.items() if k.endswith("error"))
    skips = int(figures[0].values["skips"])
    return (
        f"The ledger's skip and branch gradients agree with brute-force autograd to {number(worst)} at each of "
        f"{skips} skips."
    )


CLAIM = Claim(
    id="A1",
    title="The gradient of a skip, in its two terms",
    statement="y = F(x) + x gives dL/dx = dL/dy·(1 + ∂F/∂x): the term through the skip and the term through the branch "
    "can be measured apart at every skip.",
    anchor="algebra",
    criterion=f"‖S‖, ‖B‖, ‖S+B‖ (relative) and cos(S, B) within {BOUND:g} of torch.autograd.grad in float64, at "
    "every skip",
    refutes="a skip without a row, or a figure further off than float64 rounds",
    setting="five skips (identity, scaled, projection, concatenation, identity) with batch norm, float64, one backward",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures, ("skip error", "branch error", "sum error", "cosine error"), "relative error", log_y=True, bound=BOUND
    ),
    topic="gradient",
    duration="1 s",
    not_on_model="brute force needs the two uses of x written apart in the source; `sg.watch` measures any model",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=1)
