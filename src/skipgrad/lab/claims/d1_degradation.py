"""D1: deeper plain nets train worse, residual ones do not. It is the *training* error that rises: no overfitting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle, over
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import CHANCE, digits, error, samples, trained
from skipgrad.models import Workload

EPOCHS, QUICK_EPOCHS, BATCH, RATE, WIDTH = 15, 5, 64, 0.1, 8
GAP, RESIDUAL_BELOW, SHALLOW_BELOW = 20.0, 1.0, 5.0
NETS = ("plain20", "plain56", "resnet20", "resnet56")


def workload_of(net: str) -> Workload:
    """A built-in net with batch norm on the digits."""
    return digits(f"skipgrad:{net}", {"norm": "batch", "width": WIDTH}, BATCH)


def recipe(workload: Workload, seed: int, epochs: int) -> Recipe:
    """How these nets are trained, here and in the claims that look into them."""
    assert workload.data.size is not None
    steps = epochs * (workload.data.size // BATCH)
    return Recipe(steps, BATCH, "sgd", RATE, seed, warmup=1 / epochs, schedule="cosine")


def training_error(model: nn.Module, workload: Workload) -> float:
    """Share of all training examples the model gets wrong, in percent; with the running statistics of its norms."""
    assert workload.data.size is not None
    return error(model, *samples(workload, workload.data.size))


def trained_error(net: str, setting: Setting, epochs: int) -> float:
    """The training error of one net after training; that of chance when it diverged."""
    workload = workload_of(net)
    model, result = trained(workload, recipe(workload, setting.seed, epochs), setting)
    return CHANCE if result.diverged else training_error(model, workload)


def judge(values: Values) -> bool | None:
    """The criterion on one seed; it cannot tell when the shallow plain net did not train either."""
    holds = values["gap in points"] >= GAP and values["resnet56 train error %"] <= RESIDUAL_BELOW
    return None if not holds and values["plain20 train error %"] > SHALLOW_BELOW else holds


def one_seed(setting: Setting) -> Values:
    """Four nets, trained alike."""
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    errors = {}
    for net in NETS:
        setting.say(net)
        errors[net] = trained_error(net, setting, epochs)
    return values_of(errors)


def values_of(errors: dict[str, float]) -> Values:
    """The figures of one seed."""
    return {
        **{f"{n} train error %": e for n, e in errors.items()},
        "gap in points": errors["plain56"] - errors["plain20"],
    }


def sentence(figures: Sequence[Figure]) -> str:
    """The errors of the four nets."""
    at = {net: number(middle(figures, f"{net} train error %")) for net in NETS}
    worst = min(over(figures, "gap in points"))
    return (
        f"Training error of plain nets rises from {at['plain20']} % (20 layers) to {at['plain56']} % (56 layers), of "
        f"residual ones it goes from {at['resnet20']} % to {at['resnet56']} % (medians over {len(figures)} seeds; "
        f"smallest rise {number(worst)} points)."
    )


CLAIM = Claim(
    id="D1",
    title="Deeper plain nets train worse",
    statement="Adding layers to a plain net raises its training error; with skip connections it does not.",
    anchor="CIFAR-10 error of ResNet-20/32/44/56/110/1202: 8.75/7.51/7.17/6.97/6.43/7.93 %; ImageNet plain-18/34: "
    "27.94/28.54 %, ResNet: 27.88/25.03 % (He et al. 2015)",
    criterion=f"training error of plain56 − plain20 ≥ {GAP:g} points and of ResNet-56 ≤ {RESIDUAL_BELOW:g} %",
    refutes="a plain net of 56 layers that fits the training set as one of 20 does, or a residual one that does not",
    setting=f"digits, width {WIDTH}, batch norm, {EPOCHS} epochs of {BATCH}, SGD with momentum, rate {RATE} with "
    "one epoch "
    "of warm-up and cosine decay, the same for all",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(figures, [f"{n} train error %" for n in NETS], "training error, %"),
    effect="gap in points",
    caution="With batch norm the gradient of the deep plain net does not vanish (He et al. 2015 say so "
    "themselves): that "
    "degradation is vanishing gradients is the popular account, not the paper's.",
    duration="one minute",
    trains=True,
    not_on_model="it needs the same net without its skips and at another depth",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=101)
