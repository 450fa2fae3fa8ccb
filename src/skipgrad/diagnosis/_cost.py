"""What a finding costs this run: a property of the net is no fault while the net learns with it."""

from __future__ import annotations

from skipgrad.core import Measurements
from skipgrad.core.run import Severity
from skipgrad.core.units import number
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._reach import reach


def graded(measured: Measurements, severity: Severity) -> Severity:
    """The severity, lowered to ``"info"`` where the losses show that the run learned all the same."""
    return "info" if learning(measured).well else severity


def excessive(measured: Measurements, severity: Severity) -> Severity:
    """The severity of a figure that no healthy net comes near; a warning at most where the run learned all the same."""
    return "warning" if severity == "error" and learning(measured).well else severity


def structural(measured: Measurements, severity: Severity) -> Severity:
    """The severity where the losses show that the run did *not* learn, else ``"info"``: nothing shows that it harms."""
    return severity if learning(measured).sick and not loss_to_blame(measured) else "info"


def loss_to_blame(measured: Measurements) -> bool:
    """Whether next to nothing comes back from the loss itself, so that no skip is to blame."""
    seen = learning(measured)
    if not seen.sick or seen.state in ("worse", "relapsed"):
        return False
    back = reach(measured, seen.last)
    return back is not None and back.flat and not back.last_dead


def advice(measured: Measurements, otherwise: str, *, well: bool | None = None) -> str:
    """What to do about a finding, as a sentence: nothing where the net learns, the loss first where it is dead.

    Args:
        measured: the run.
        otherwise: what to do where neither is so.
        well: whether the run is well in spite of the finding, for a check that looks at more than the losses.
    """
    seen = learning(measured)
    if seen.well and well is not False:
        return (
            f"This run learned all the same (its loss fell from {number(seen.first)} to {number(seen.last)} in "
            f"{seen.steps} "
            "steps): nothing needs doing."
        )
    if loss_to_blame(measured):
        return "Next to nothing comes back from the loss itself (SG012): mend that first, this may follow from it."
    if seen.state == "none":
        return (
            f"{otherwise} Whether the run learns is not known, as no losses were handed over (ledger.loss): where "
            "it does "
            "not, look at the output and the loss first."
        )
    return otherwise


def worth_trying(measured: Measurements, *remedies: str) -> tuple[str, ...]:
    """The remedies; none where the run learned, or where the loss itself is to blame: there is nothing to cure by "
    "them."""
    return () if learning(measured).well or loss_to_blame(measured) else remedies
