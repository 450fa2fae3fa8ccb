"""APP-DIFFUSION: finding the noise in an image, by a U-Net with its long skips, without, and with scaled ones."""

from __future__ import annotations

from torch import Tensor

from skipgrad.core import Recipe
from skipgrad.lab.applications import WITH, WITHOUT, Measure, application, contest, over_all, parts
from skipgrad.lab.claim import Setting, Values
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import fit

BATCH, EPOCHS, QUICK_EPOCHS, RATES, KAPPA = 64, 12, 5, (3e-3, 1e-3), 0.7
SCALED = "with scaled skips"
JOINS = {WITH: "concat", WITHOUT: "none", SCALED: "scaled"}
ERROR = Measure("squared error of the noise", higher=False, learned=0.45, gap=0.05)


def one_seed(setting: Setting) -> Values:
    """Three nets of the same weights on noised digits."""
    args = {"in_channels": 2, "num_classes": 1, "kappa": KAPPA}
    work = {
        name: parts(fit("skipgrad:unet", {**args, "skip": join}, "denoise:digits", batch_size=BATCH), 0.125)
        for name, join in JOINS.items()
    }
    train, held = work[WITH]
    assert train.data.size is not None
    steps = (QUICK_EPOCHS if setting.quick else EPOCHS) * (train.data.size // BATCH)
    recipe = Recipe(steps, BATCH, "adam", clip=1.0, warmup=0.05, schedule="cosine")
    score = over_all(held, squared)
    values = contest({n: t for n, (t, _) in work.items()}, recipe, RATES, ERROR, score, setting, long=True)
    values["gained by scaling"] = ERROR.gap_of(values, SCALED, WITH)
    return values


def squared(noise: Tensor, truth: Tensor) -> Tensor:
    """Squared error of each pixel."""
    return (noise - truth) ** 2


CLAIM = application(
    ERROR,
    arms=tuple(JOINS),
    id="APP-DIFFUSION",
    title="Denoising: long skips, none, and scaled ones",
    statement="The U-Net of a diffusion model finds the noise in an image better with its long skips; scaling "
    "them costs nothing.",
    anchor="U-Nets with long skips throughout (Ho et al. 2020); κ^(i−1) trains about 1.5 × faster (Huang et al. 2023)",
    setting="noised 8×8 digits of 1,000 levels, the level as a channel (an eighth held out); U-Net of width 8, "
    f"{EPOCHS} epochs of "
    f"{BATCH}, Adam at the better of {RATES}, cosine, clipped at 1; κ = {KAPPA:g}",
    caution="that scaled skips train faster is not asked here: at this size the three-level net is steady without",
    one_seed=one_seed,
    duration="one minute",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=206)
