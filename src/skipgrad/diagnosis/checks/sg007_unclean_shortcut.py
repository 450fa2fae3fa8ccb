"""SG007: the way along the shortcuts is not clean: something changes x on it, once per skip."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skipgrad.core import Measurements, Skip, SkipRow
from skipgrad.core.clean import SCALING
from skipgrad.core.run import Severity
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed
from skipgrad.diagnosis._cost import advice, graded, structural, worth_trying
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._prescribe import possible
from skipgrad.diagnosis._series import finite, medians, runs, share, stream

# One norm between two skips (after an embedding, at the end of a stage) is no pattern; from two on the gradient passes
# a norm at each skip, which is Post-LN.
NORM_LINKS = 2
# ResNet-110 went from 6.6 to 12.4 % error with shortcuts scaled by .5, and to 12.2 % with a 1×1 convolution on each (He
# et al. 2016). Over a run of skips the factors multiply: judged is the product, and ten times either way is a lot.
PRODUCT = 10.0
# Within a factor of two over a whole run, scaled shortcuts are as good as clean.
CLEAN = 2.0
# Half of the shortcuts have a weight that no change of shape asks for.
MANY = 0.5


@dataclass(frozen=True)
class Dirt:
    """What lies on the way, by kind: names of the skips concerned."""

    norms: tuple[str, ...]
    activations: tuple[str, ...]
    scaled: tuple[str, ...]
    projections: tuple[str, ...]


def judge(measured: Measurements) -> Judgement:
    """Judges what lies between the skips of a run and on their shortcuts; measured gains where there are any."""
    skips = stream(measured.graph.skips)
    if not skips:
        return not_applicable("the net has no short add or gate skips on its stream")
    dirt = _dirt(measured, skips)
    evidence: dict[str, float | int | str] = {
        "norms_between_skips": len(dirt.norms),
        "activations_between_skips": len(dirt.activations),
        "scaled_shortcuts": len(dirt.scaled),
        "unneeded_projections": len(dirt.projections),
        "skips": len(skips),
        "threshold": NORM_LINKS,
        "product_threshold": PRODUCT,
    }
    product = _product(measured, skips)
    if product is not None:
        evidence |= {"shortcut_product": product[0], "run_length": product[1]}
    # How far the product strays from one, in either direction; unknown without measurements.
    stray = None if product is None else max(share(product[0], 1.0), share(1.0, product[0]))
    trunk = _trunk_gains(measured, dirt.norms)
    if trunk:
        evidence["norm_gain"] = math.exp(sum(math.log(g) for g in trunk) / len(trunk))

    heavy = stray is not None and stray > PRODUCT
    # What lies there is a property of the net; that the run does not learn, or how much it does to the gradient, is
    # harm.
    severity: Severity = graded(measured, "warning") if heavy else structural(measured, "warning")
    if len(dirt.norms) >= NORM_LINKS:
        fix = "Move the norms into the branches (Pre-LN)"
        fix += ", or start the branches at zero (zero-init)." if possible(measured, ["zero-init"]) else "."
        return found(
            f"A norm lies between the skips at {len(dirt.norms)} places ({some(dirt.norms)}), so the gradient passes "
            f"one at each skip{_measured(product)}: Post-LN. Such nets want warm-up. {advice(measured, fix)}",
            severity=severity,
            where=dirt.norms,
            evidence=evidence,
            remedies=worth_trying(measured, "zero-init", "skip-calibration") if severity != "info" else (),
        )
    if dirt.scaled and (stray is None or stray > CLEAN):
        return found(
            f"{len(dirt.scaled)} shortcuts scale x ({some(dirt.scaled)}){_measured(product)}; the factors multiply "
            f"over the run. {advice(measured, 'Put the scale on the branch instead.')}",
            severity=graded(measured, "warning") if heavy else "info",
            where=dirt.scaled,
            evidence=evidence,
        )
    if dirt.projections:
        many = len(dirt.projections) >= max(2.0, MANY * len(skips))
        return found(
            f"{len(dirt.projections)} shortcuts have a weight of their own although x keeps its shape "
            f"({some(dirt.projections)}){_measured(product)}. {advice(measured, 'An identity does better there.')}",
            severity=graded(measured, "warning") if many or heavy else "info",
            where=dirt.projections,
            evidence=evidence,
        )
    if dirt.activations:
        return found(
            f"An activation follows the merge at {len(dirt.activations)} places "
            f"({some(dirt.activations)}){_measured(product)}, as in the first ResNets.{_in_place(skips, dirt)} They "
            "train well "
            "at usual depths, and nothing needs doing; past a hundred blocks pre-activation does better.",
            severity="info",
            where=dirt.activations,
            evidence=evidence,
        )
    if dirt.norms:
        return found(
            f"A norm lies between two skips at one place ({some(dirt.norms)}). One does no harm, and nothing needs "
            "doing; "
            "keep it in mind when the net grows.",
            severity="info",
            where=dirt.norms,
            evidence=evidence,
        )
    return passed("nothing but views lies between the skips, and their shortcuts are clean", evidence)


def _in_place(skips: list[Skip], dirt: Dirt) -> str:
    """Says that x itself is overwritten: a block that begins so hands the activation's result to its shortcut, too."""
    names = [s.name for s in skips if s.name in dirt.activations and any(op.endswith("_") for op in s.trunk)]
    if not names:
        return ""
    return (
        f" At {len(names)} of them it works in place: x itself is overwritten, and the shortcut carries the "
        "activation's "
        "result. If it belongs to the branch alone, take inplace=True off it."
    )


def _dirt(measured: Measurements, skips: list[Skip]) -> Dirt:
    names = {s.name for s in skips}
    found = [u for u in measured.graph.unclean if u.skip in names]
    return Dirt(
        tuple(u.skip for u in found if u.why == "norm after merge"),
        tuple(u.skip for u in found if u.why == "activation after merge"),
        tuple(u.skip for u in found if u.why in SCALING),
        tuple(u.skip for u in found if u.why == "projection"),
    )


def _gains(measured: Measurements) -> dict[str, float]:
    """‖S‖ / ‖dL/dy‖ of each skip: what the shortcut does to the gradient; 1 for an identity."""
    rows = [r for r in measured.skips if finite(r.skip_norm) and finite(r.out_norm) and r.out_norm > 0]
    return medians(rows, lambda r: r.skip, lambda r: r.skip_norm / r.out_norm)


def _links(measured: Measurements) -> dict[str, float]:
    """By skip: what the way back from its fork to the merge of the skip before does to the gradient; 1 if clean."""
    before = {s.name: s.previous for s in measured.graph.skips if s.previous}
    out = {(r.step, r.micro, r.skip): r.out_norm for r in measured.skips if finite(r.out_norm)}

    def gain(row: SkipRow) -> float | None:
        earlier = out.get((row.step, row.micro, before.get(row.skip) or ""))
        return (
            None if earlier is None or not finite(row.total_norm) or row.total_norm <= 0 else earlier / row.total_norm
        )

    return medians(measured.skips, lambda r: r.skip, gain)


def _trunk_gains(measured: Measurements, names: tuple[str, ...]) -> list[float]:
    links = _links(measured)
    return [links[n] for n in names if links.get(n, 0.0) > 0]


def _product(measured: Measurements, skips: list[Skip]) -> tuple[float, int] | None:
    """What is left of a gradient after a run of shortcuts: the product that strays most, and the run's length."""
    gains, links = _gains(measured), _links(measured)
    worst: tuple[float, int] | None = None
    for run in runs(skips):
        logs = []
        for position, s in enumerate(run):
            # A shortcut that has to change the shape may change the size of the gradient with it.
            kept = s.fork_shape == s.merge_shape
            factors = [gains.get(s.name, 1.0) if kept else 1.0, links.get(s.name, 1.0) if position else 1.0]
            logs += [math.log(f) if f > 0 else -math.inf for f in factors]
        if len(run) < 2 or not any(s.name in gains for s in run):
            continue
        total = sum(logs)
        if worst is None or abs(total) > abs(math.log(worst[0]) if worst[0] > 0 else -math.inf):
            worst = (math.exp(min(total, 700.0)), len(run))
    return worst


def _measured(product: tuple[float, int] | None) -> str:
    if product is None:
        return ""
    return f"; along {product[1]} shortcuts in a row it comes to {number(product[0])}×"


CHECK = CHECKS.register(
    "SG007",
    Check(
        "SG007",
        "Shortcuts that are not clean",
        "warning",
        "Something lies on the way along the shortcuts: a norm between the skips (Post-LN), an activation after the "
        "merge, a scale or a weight that the shapes do not ask for. Its effect on the gradient is multiplied at "
        "every skip, so a little per block becomes much over a deep net.",
        judge,
    ),
)
