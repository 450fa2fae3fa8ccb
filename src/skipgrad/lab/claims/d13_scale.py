"""D13: skips alone do not suffice: without norms a deep residual net explodes, and the right scale cures it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import CHANCE, digits, error, samples
from skipgrad.remedies import remedy
from skipgrad.remedies.plan import Applied
from skipgrad.train import settle, train_trial

NET, WIDTH, BATCH, RATE, EPOCHS, QUICK_EPOCHS = "resnet56", 8, 64, 0.05, 15, 8
BROKEN, CURED = 80.0, 5.0
CURES = {"rezero": {}, "layerscale": {"init_values": 0.1}, "branch-scale": {}, "fixup": {}}


def he(model: nn.Module) -> None:
    """He initialisation of every convolution, fan-out, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def trained_error(name: str, setting: Setting, epochs: int) -> float:
    """Training error of the net without norms under one cure (or none, for an empty name), in percent."""
    workload = digits(f"skipgrad:{NET}", {"norm": "none", "width": WIDTH}, BATCH)
    steps = epochs * (1797 // BATCH)
    recipe = Recipe(steps, BATCH, "sgd", RATE, setting.seed, warmup=1 / epochs, schedule="cosine")
    x, y = samples(workload, 1797)
    held: list[nn.Module] = []
    left: list[float] = []

    def prepare(model: nn.Module) -> Applied | None:
        he(model)
        held.append(model)
        return remedy(name, **CURES[name]).plan(find(model, x[:2])).apply(model) if name else None

    def stop(point: object) -> bool:
        if getattr(point, "step", -1) == steps - 1:
            left.append(error(held[0], x, y))  # before the cure is undone
        return False

    settle(workload, recipe, setting.threads)
    result = train_trial(workload, recipe, prepare=prepare, stop=stop, threads=setting.threads)
    return CHANCE if result.diverged or not left else left[0]


def one_seed(setting: Setting) -> Values:
    """He initialisation without norms, and each cure of it."""
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    values: Values = {}
    for name in ("", *CURES):
        setting.say(name or "He initialisation alone")
        values[f"{name or 'He init'} error %"] = trained_error(name, setting, epochs)
    values["worst cure, error %"] = max(values[f"{name} error %"] for name in CURES)
    return values


def judge(values: Values) -> bool:
    """Broken without, cured by each."""
    return values["He init error %"] >= BROKEN and values["worst cure, error %"] <= CURED


def sentence(figures: Sequence[Figure]) -> str:
    """The errors."""
    told = ", ".join(f"{name} {number(middle(figures, f'{name} error %'))} %" for name in CURES)
    return (
        f"ResNet-56 without norms: training error {number(middle(figures, 'He init error %'))} % from He "
        "initialisation "
        f"(a trial that diverges counts as chance, {CHANCE:g} %); with a scale on its branches: {told}."
    )


CLAIM = Claim(
    id="D13",
    title="Skips alone do not suffice",
    statement="A deep residual net without norms explodes; scaling its branches by their number cures it.",
    anchor="Fixup trains 10,000 layers without norms (Zhang et al. 2019); SkipInit (De & Smith 2020)",
    criterion=f"training error ≥ {BROKEN:g} % from He initialisation, ≤ {CURED:g} % with each of {', '.join(CURES)}",
    refutes="an unscaled net that trains, or a scaled one that does not",
    setting=f"{NET} of width {WIDTH} without norms on digits, {EPOCHS} epochs of {BATCH}, SGD {RATE:g}, one epoch of "
    "warm-up, cosine; the cures are the retrofits of those names",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(figures, [f"{n} error %" for n in ("He init", *CURES)], "training error, %"),
    effect="worst cure, error %",
    topic="training",
    duration="one minute",
    trains=True,
    not_on_model="`skipgrad check MODEL --try rezero` asks it of yours",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=113)
