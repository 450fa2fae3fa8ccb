"""What is the matter, and did the cure help: one sentence and the two figures that carry it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skipgrad.core import Cure, Run
from skipgrad.core.rank import winner
from skipgrad.diagnosis import Learning, Profile, learning, profile
from skipgrad.report.marks import found
from skipgrad.report.subjects import Subject
from skipgrad.report.text import clean, figure, listed, plural, short, spread, times


@dataclass(frozen=True)
class LargeFigure:
    """A large figure: what it is, what it is relative to, and its range."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class Headline:
    """The first part of the report.

    Attributes:
        state: severity of the gravest finding, ``"passed"`` when all is well, ``"skipped"`` when nothing was judged.
        sentence: the verdict in plain words.
        figures: the gradient at the first layers, then steps and seconds of the best cure.
    """

    state: str
    sentence: str
    figures: tuple[LargeFigure, ...]


def headline(run: Run, who: tuple[Subject, ...]) -> Headline:
    """The verdict of a run."""
    model = short(run.meta.get("model") or (run.graph.model if run.graph else "") or "The model")
    state, matter = _matter(run, model)
    gradient = profile(who[0].measurements)
    best = winner(run.cures)
    clauses = [matter]
    if isinstance(gradient, Profile):
        clauses.append(
            f"the gradient reaching its first layers is {figure(gradient.first_to_last, 2)} times that at the last"
        )
    clauses.append(_outcome(run, best))
    sentence = "; ".join(c for c in clauses if c) + "."
    return Headline(state, sentence, (_gradient_figure(who), *_cure_figures(run, best)))


def _matter(run: Run, model: str) -> tuple[str, str]:
    """State and first clause: whether it learns decides what may be said of the rest."""
    problems, seen = found(run), learning(run.measurements())
    judged = sum(f.state == "passed" for f in run.findings)
    if problems and problems[0].severity != "info":
        worst = problems[0]
        more = f" and {plural(len(problems) - 1, 'more finding')}" if len(problems) > 1 else ""
        learned = f"learned {_fall(seen)}, and" if seen.well else ""
        says = f"{learned} has a problem".strip()
        return worst.severity, f"{model} {says}: {_lower(short(worst.title))} ({short(worst.code)}){more}"
    if run.findings and seen.state == "not finite":
        return "warning", f"The loss of {model} is not a finite number in some step"
    if run.findings and seen.sick:  # a run written by a version that did not look at the loss
        return "warning", f"{model} did not learn: its loss went from {figure(seen.first)} to {figure(seen.last)}"
    if problems:
        known = f"{_lower(short(problems[0].title))} ({short(problems[0].code)})"
        more = f" and {plural(len(problems) - 1, 'more hint')}" if len(problems) > 1 else ""
        if seen.well:
            return "info", f"{model} learned {_fall(seen)}, and nothing needs doing; worth knowing: {known}{more}"
        return "info", f"Nothing grave was found in {model}{_unknown(seen)}; worth knowing: {known}{more}"
    if run.findings:
        if not judged:
            return "skipped", f"No check could judge {model}"
        if seen.well:
            return "passed", f"Nothing is the matter with {model}, which learned {_fall(seen)}: {_passed(judged)}"
        return "passed", f"Nothing was found in {model}: {_passed(judged)}{_unknown(seen)}"
    return "skipped", f"{model} was not diagnosed: {_why_not(run)}"


def _fall(seen: Learning) -> str:
    return f"(loss {figure(seen.first)} to {figure(seen.last)})"


def _unknown(seen: Learning) -> str:
    """Why nobody can say whether it learns."""
    if seen.state == "none":
        return "; whether it learns is not known, as no losses were given"
    if seen.state == "too short":
        return f"; whether it learns is not known after {plural(seen.steps, 'step')}"
    return ""


def _gradient_figure(who: tuple[Subject, ...]) -> LargeFigure:
    label = "gradient reaching the first layers, relative to the last"
    seen = profile(who[0].measurements)
    if not isinstance(seen, Profile):
        return LargeFigure("–", label, clean(seen.prescription))
    detail = f"‖dL/dz‖, median of {plural(seen.steps, 'measured step')}"
    for other in who[1:]:
        cured = profile(other.measurements)
        if isinstance(cured, Profile):
            detail += f"; {times(cured.first_to_last)} {other.who}"
    return LargeFigure(times(seen.first_to_last), label, detail)


def _cure_figures(run: Run, best: Cure | None) -> tuple[LargeFigure, ...]:
    if best is None:
        tried = sum(c.state != "refused" for c in run.cures)
        detail = f"{plural(tried, 'remedy', 'remedies')} tried, none helped" if tried else "no remedy was tried"
        return (LargeFigure("–", "steps and seconds to the patient's best loss, cured against patient", detail),)
    name = short(best.remedy)
    if not best.patient_trains:
        many = f"median over {plural(best.seeds, 'seed')}, smoothed; " if best.seeds else ""
        still = f"{many}the patient does not train: {figure(best.patient_first_loss)} at first"
        fall = f"{figure(best.patient_best_loss)} → {figure(best.best_loss)}"
        return (LargeFigure(fall, f"best training loss, patient → {name}", still),)
    over = f" over {plural(best.seeds, 'seed')}" if best.seeds else ""
    seconds = (
        times(best.seconds_ratio),
        f"seconds to the patient's best loss, {name} against patient",
        f"{spread(best.seconds_spread)}{over}" if best.seconds_spread else "no spread: one seed or never reached",
    )
    if never_reached(best) and not _every_seed(best):
        lower = LargeFigure(
            f"{figure(best.patient_best_loss)} → {figure(best.best_loss)}",
            f"best training loss, patient → {name}",
            f"median{over}, smoothed; each at its best of the same rates",
        )
        met = f"steps to it: {times(best.steps_ratio)}"
        if best.steps_spread:
            met += f" ({spread(best.steps_spread)})"
        return lower, LargeFigure(seconds[0], seconds[1], "; ".join((seconds[2], met)))
    steps = LargeFigure(
        times(best.steps_ratio),
        f"steps to the patient's best loss, {name} against patient",
        f"{spread(best.steps_spread)}{over}" if best.steps_spread else "no spread: one seed or never reached",
    )
    return steps, LargeFigure(*seconds)


def never_reached(cure: Cure) -> bool:
    """Whether the cure went where the patient never got: its best loss is lower by a tenth of the patient's."""
    pair = (cure.best_loss, cure.patient_best_loss)
    if any(loss is None or not math.isfinite(loss) for loss in pair):
        return False
    assert cure.best_loss is not None
    assert cure.patient_best_loss is not None
    return cure.best_loss < cure.patient_best_loss - 0.1 * abs(cure.patient_best_loss)


def _every_seed(best: Cure) -> bool:
    """Whether every seed met the patient's best loss sooner; one the patient met by chance gives ratios of chance."""
    return best.steps_ratio is not None and best.steps_spread is not None and best.steps_spread[1] < 1


def _outcome(run: Run, best: Cure | None) -> str:
    idle = next((c for c in run.cures if not c.patient_trains), None)
    still = _standstill(idle) if idle else ""
    if best is not None:
        name = short(best.remedy)
        same = f" in the same {run.meta['steps']} steps" if run.meta.get("steps") else ""
        if not best.patient_trains:
            return f"{still}; with {name} the loss falls to {figure(best.best_loss)}{same}"
        steps_, seconds_ = best.steps_spread, best.seconds_spread
        range_ = f" ({spread(steps_)})" if steps_ else ""
        time = f" and {times(best.seconds_ratio)} the seconds" if best.seconds_ratio is not None else ""
        if seconds_ and time:
            time += f" ({spread(seconds_)})"
        ratios = f"the patient's best loss in {times(best.steps_ratio)} the steps{range_}{time}"
        if never_reached(best):
            lower = (
                f"with {name} the loss falls to {figure(best.best_loss)}, which the patient, at "
                f"{figure(best.patient_best_loss)}, never reaches{same}"
            )
            return f"{lower}; it meets {ratios}" if _every_seed(best) else lower
        if best.steps_ratio is None:
            return f"{name} helped ({clean(best.reason)})"
        if not _every_seed(best) and best.best_loss is not None:
            return (
                f"with {name} the best loss is {figure(best.best_loss)} against {figure(best.patient_best_loss)}; "
                f"it reaches {ratios}"
            )
        return f"{name} reaches {ratios}"
    tried = [clean(c.remedy) for c in run.cures if c.state != "refused"]
    if tried:
        none = f"none of the remedies tried helped ({listed(tried)})"
        return f"{still}; {none}" if still else none
    if run.cures:
        return "every remedy refused this model"
    if found(run) and run.meta.get("state") == "done":
        return "no remedy was tried"
    return ""


def _standstill(cure: Cure) -> str:
    if cure.patient_best_loss is None:
        return "the patient does not train: its loss is no finite number"
    return (
        f"the patient does not train: its loss is {figure(cure.patient_best_loss)} at its best and "
        f"{figure(cure.patient_first_loss)} at first"
    )


def _why_not(run: Run) -> str:
    state = run.meta.get("state")
    if state in ("interrupted", "failed", "running"):
        verb = {"interrupted": "was interrupted", "failed": "failed", "running": "is still running"}[state]
        steps = max((p.step for p in run.losses), default=None)
        after = "before its first step" if steps is None else f"after {plural(steps + 1, 'step')}"
        return f"the run {verb} {after}"
    return "the run holds no findings"


def _passed(judged: int) -> str:
    return (
        "the one check that could judge it passed" if judged == 1 else f"all {judged} checks that could judge it passed"
    )


def _lower(title: str) -> str:
    """A title inside a sentence; names such as ReLU keep their capitals."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]
