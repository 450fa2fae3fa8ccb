"""D11: SegNet's indices and a feature pyramid's laterals carry detail, as a U-Net's concatenation does."""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.core.units import number
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.claims.d9_fine_detail import EPOCHS, LEARNED, QUICK_EPOCHS, TEST, TRAIN, WIDTH, segmented
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS

GAP = 0.05
NAMES = {"none": "none", "indices": "pooling indices", "add": "laterals, added", "concat": "concatenation"}


def one_seed(setting: Setting) -> Values:
    """The same encoder and decoder, joined in four ways."""
    values: Values = {}
    for join, name in NAMES.items():
        setting.say(name)
        epochs = QUICK_EPOCHS if setting.quick else EPOCHS
        values[f"IoU, {name}"], values[f"boundary error, {name}"], _ = segmented(join, WIDTH, setting, epochs)
    joins = [f"IoU, {n}" for j, n in NAMES.items() if j != "none"]
    values["least gain"] = min(values[n] for n in joins) - values["IoU, none"]
    return values


def judge(values: Values) -> bool | None:
    """Each join gains; it cannot tell when none of them has learned."""
    if max(v for n, v in values.items() if n.startswith("IoU")) < LEARNED:
        return None
    return values["least gain"] >= GAP


def sentence(figures: Sequence[Figure]) -> str:
    """The four."""
    told = ", ".join(f"{number(middle(figures, f'IoU, {n}'))} by {n}" for j, n in NAMES.items() if j != "none")
    return f"IoU {number(middle(figures, 'IoU, none'))} with nothing between encoder and decoder; {told}."


CLAIM = Claim(
    id="D11",
    title="Indices and laterals carry detail",
    statement="A decoder that gets only where each maximum was (SegNet), or a 1×1 convolution of the encoder's "
    "features added "
    "(feature pyramid), recovers detail as one that gets the features themselves does.",
    anchor="FPN: average recall 48.3 → 56.3, without laterals 46.1; AP 33.9 against 31.3 (Lin et al. 2017); SegNet "
    "(Badrinarayanan et al. 2017)",
    criterion=f"IoU of each of the three ≥ that of none + {GAP:g}",
    refutes="a join that gains nothing",
    setting=f"shapes as in D9, {TRAIN} to train and {TEST} to test, {EPOCHS} epochs, one width for all",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(figures, [f"IoU, {n}" for n in NAMES.values()], "IoU"),
    effect="least gain",
    topic="structure",
    duration="two minutes",
    trains=True,
    not_on_model="it needs the same net joined in other ways",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=111)
