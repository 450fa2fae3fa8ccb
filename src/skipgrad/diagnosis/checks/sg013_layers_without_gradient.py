"""SG013: layers whose weights never get a gradient, though they run: computed for nothing, or cut off."""

from __future__ import annotations

from skipgrad.core import Measurements
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._reached import Unreached, unreached

# So many losses, and somebody trains; a forward or two without a backward are a look at the output.
FEWEST_STEPS = 5


def judge(measured: Measurements) -> Judgement:
    """Judges which layers of the graph have a row with a gradient of their weights, over all steps."""
    if not measured.graph.layers:
        return not_applicable("the net has no weighted layers")
    seen = unreached(measured)
    if seen is None and (cut := _all_cut(measured)):
        return found(
            f"{_many(cut)} of {len(measured.graph.layers)} ({some(cut)}) ran in {len(measured.losses)} steps, and no "
            "backward ever came back to any that skipgrad can follow: their weights stay as they are. What they return "
            "is not used, or is cut off on its way to the loss (an argmax, a rounding, a detach, a no_grad). Look at "
            "the line that should use it; freeze the layers if they are meant to stay as they are.",
            where=cut,
            evidence={"layers_without_gradient": len(cut), "layers": len(measured.graph.layers), "threshold": 0},
        )
    if seen is None:
        return skipped("no layer's weight gradient was measured; watch a backward pass of a net with weights to train")
    evidence: dict[str, float | int | str] = {
        "layers_without_gradient": len(seen.cut),
        "frozen_layers": len(seen.frozen),
        "layers": seen.layers,
        "threshold": 0,
    }
    if seen.not_run:
        evidence["layers_not_run"] = len(seen.not_run)
    if seen.cut:
        return found(_cut(seen) + _frozen(seen), where=seen.cut, evidence=evidence)
    if seen.frozen and not seen.sure and len(seen.frozen) < seen.layers / 2:
        return found(
            f"{_many(seen.frozen)} of {seen.layers} ({some(seen.frozen)}) get no gradient for their weights. If "
            "they are "
            "frozen on purpose, nothing needs doing; if not, look for a detach, a no_grad or an argmax behind them.",
            severity="info",
            where=seen.frozen,
            evidence=evidence,
        )
    return passed(f"every layer that is trained gets a gradient ({seen.layers} layers).{_frozen(seen)}", evidence)


def _all_cut(measured: Measurements) -> tuple[str, ...]:
    """Layers that ran and that no backward reached, where a run was trained and not one backward came to any layer."""
    account = measured.account
    if account is None or account.backwards or account.unmeasured or not account.measured:
        return ()
    if len(measured.losses) < FEWEST_STEPS or account.without < account.measured:
        return ()
    return tuple(name for name, state in account.layers.items() if state == "not reached")


def _cut(seen: Unreached) -> str:
    return (
        f"{_many(seen.cut)} of {seen.layers} ({some(seen.cut)}) ran and never got a gradient: their weights stay as "
        "they "
        "are. Either nothing uses what they return (a wrong tensor was passed on), or it is cut off on its way to "
        "the loss (a "
        "detach, a no_grad, an argmax, a checkpoint whose inputs ask for no gradient). Look at the line that should "
        "use it; "
        "freeze the layers if they are meant to stay as they are."
    )


def _frozen(seen: Unreached) -> str:
    if not seen.frozen:
        return ""
    return f" {_many(seen.frozen)} {'are' if seen.sure else 'look'} frozen ({some(seen.frozen)})."


def _many(names: tuple[str, ...]) -> str:
    return f"{len(names)} layer{'s' if len(names) != 1 else ''}"


CHECK = CHECKS.register(
    "SG013",
    Check(
        "SG013",
        "Layers without gradient",
        "warning",
        "Layers run in every step and their weights never get a gradient: what they return is not used, or is cut "
        "off on its "
        "way to the loss. They stay at their random initial weights, cost time and memory, and nothing else shows "
        "it, because "
        "a gradient that is missing is not a small one.",
        judge,
        ("steps",),
    ),
)
