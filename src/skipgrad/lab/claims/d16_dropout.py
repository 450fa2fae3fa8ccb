"""D16: a net trained with dropout predicts, its weights scaled, about what its subnetworks predict on average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import digits, samples, trained
from skipgrad.models import Workload

STEPS, QUICK_STEPS, BATCH, RATE, DROP = 400, 200, 64, 1e-3, 0.3
DRAWS, HELD = 100, 400
CLOSE, BETTER = 0.75, 1.0


class Dropped(nn.Module):
    """Two hidden layers with dropout behind each, on flattened 8×8 images."""

    def __init__(self, drop: float = DROP, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Dropout(drop), nn.Linear(width, width), nn.ReLU(), nn.Dropout(drop),
            nn.Linear(width, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


def averaged(model: nn.Module, x: Tensor, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mean of the subnetworks' probabilities, and each draw's own."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.train()
    with kept_random(x.device), torch.no_grad():
        seed_all(seed)
        each = torch.stack([F.softmax(model(x), -1) for _ in range(draws)])
    model.eval()
    return each.mean(0), each


def compared(model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Values:
    """Errors of the scaled net, of the average, and of single subnetworks; and how far the first two are apart."""
    with torch.no_grad():
        scaled = F.softmax(model.eval()(x), -1)
    mean, each = averaged(model, x, DRAWS, seed)
    errors = {
        "scaled weights, error %": scaled.argmax(-1) != y,
        "average of subnetworks, error %": mean.argmax(-1) != y,
        "a single subnetwork, error %": each.argmax(-1) != y,
    }
    values = {name: 100 * float(wrong.float().mean()) for name, wrong in errors.items()}
    apart = (scaled - mean).abs().sum(-1).mean() / 2
    single = (each - mean).abs().sum(-1).mean() / 2
    return values | {
        "distance scaled to average": float(apart),
        "distance of one subnetwork to average": float(single),
    }


def one_seed(setting: Setting) -> Values:
    """Trained with dropout, asked on images held out."""
    workload = digits(f"{__name__}:Dropped", {}, BATCH)
    setting.say("training")
    model, _ = trained(
        workload, Recipe(QUICK_STEPS if setting.quick else STEPS, BATCH, "adam", RATE, setting.seed), setting
    )  # fmt: skip
    x, y = samples(workload, HELD)
    return compared(model, x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(setting.seed)), y, 1)


def judge(values: Values) -> bool:
    """The scaled net is nearer to the average than a subnetwork is, and errs about as the average does."""
    near = values["distance scaled to average"] <= CLOSE * values["distance of one subnetwork to average"]
    return near and abs(values["scaled weights, error %"] - values["average of subnetworks, error %"]) <= BETTER


def sentence(figures: Sequence[Figure]) -> str:
    """Errors and distances."""
    at = {n: number(middle(figures, n)) for n in figures[0].values}
    return (
        f"Error {at['scaled weights, error %']} % with scaled weights, {at['average of subnetworks, error %']} % "
        "averaged "
        f"over {DRAWS} subnetworks, {at['a single subnetwork, error %']} % for one; the scaled net's probabilities are "
        f"{at['distance scaled to average']} from the average (total variation), one subnetwork's "
        f"{at['distance of one subnetwork to average']}."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """A user's net with dropout, after a short training: its own loss against its subnetworks'."""
    model, _ = trained(workload, Recipe(60 if setting.quick else 300, workload.batch_size, seed=setting.seed), setting)
    drops = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    batch = next(workload.batches(setting.seed + 1))
    with torch.no_grad(), kept_random(torch.device("cpu")):
        seed_all(setting.seed)
        plain = float(workload.loss(model.eval()(*batch.args, **batch.kwargs), batch))
        for module in drops:
            module.train()
        each = [float(workload.loss(model(*batch.args, **batch.kwargs), batch)) for _ in range(20)]
    return {"dropout layers": float(len(drops)), "loss, scaled": plain, "loss of one subnetwork": sum(each) / len(each)}


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """Both losses."""
    if not middle(figures, "dropout layers"):
        return "It has no dropout: there are no subnetworks to average."
    return (
        f"Its loss is {number(middle(figures, 'loss, scaled'))} with scaled weights and "
        f"{number(middle(figures, 'loss of one subnetwork'))} for one subnetwork (mean of 20)."
    )


CLAIM = Claim(
    id="D16",
    title="Dropout is about an ensemble",
    statement="A net trained with dropout, its weights scaled, predicts about what the average of its subnetworks "
    "predicts.",
    anchor="exact for one layer and a geometric mean, close for deep nets (Srivastava et al. 2014)",
    criterion=f"scaled net within {CLOSE:g} of a subnetwork's distance to the average, and errors within "
    f"{BETTER:g} point",
    refutes="a scaled net as far from the average as a single subnetwork",
    setting=f"two hidden layers, dropout {DROP:g}, digits, {STEPS} steps of Adam; {HELD} noisy images, {DRAWS} "
    "subnetworks",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        ["distance scaled to average", "distance of one subnetwork to average"],
        "total variation of the probabilities",
    ),
    effect="distance scaled to average",
    topic="regularization",
    duration="3 s",
    trains=True,
    on_model=on_model,
    on_model_sentence=on_model_sentence,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=116)
