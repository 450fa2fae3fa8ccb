"""APP-CLASSIFICATION: digits, by a residual net and by a plain one of the same size."""

from __future__ import annotations

from skipgrad.core import Recipe
from skipgrad.lab.applications import WITH, WITHOUT, Measure, application, contest, over_all, parts
from skipgrad.lab.claim import Setting, Values
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import digits

NETS = {WITH: "skipgrad:resnet44", WITHOUT: "skipgrad:plain44"}
BATCH, EPOCHS, QUICK_EPOCHS, RATES, WIDTH = 64, 8, 4, (0.1, 0.03), 8
ACCURACY = Measure("accuracy %", higher=True, learned=90.0, gap=5.0)


def one_seed(setting: Setting) -> Values:
    """Both nets, trained on four fifths of the digits and asked about the rest."""
    work = {name: parts(digits(ref, {"norm": "batch", "width": WIDTH}, BATCH)) for name, ref in NETS.items()}
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    train, held = work[WITH]
    assert train.data.size is not None
    steps = epochs * (train.data.size // BATCH)
    recipe = Recipe(steps, BATCH, "sgd", warmup=1 / epochs, schedule="cosine")
    score = over_all(held, lambda output, target: 100.0 * (output.argmax(1) == target).float())
    return contest({name: t for name, (t, _) in work.items()}, recipe, RATES, ACCURACY, score, setting)


CLAIM = application(
    ACCURACY,
    id="APP-CLASSIFICATION",
    title="Classification: digits by a residual and a plain net",
    statement="A net of 44 layers tells digits better with skips around its blocks than without.",
    anchor="CIFAR-10, 110 layers: 6.43 % error with skips; plain nets of 56 layers err more than those of 20 (He "
    "et al. 2015)",
    setting=f"ResNet-44 and plain44, width {WIDTH}, batch norm, scikit-learn's digits, a fifth held out, "
    f"{EPOCHS} epochs of "
    f"{BATCH}, SGD with momentum at the better of {RATES}, cosine",
    one_seed=one_seed,
    duration="one minute",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=201)
