"""What an honest race says: its target, its contestants in order, one sentence, and the winner's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skipgrad.boost.entry import BASELINE, UNTUNED, remedy_of
from skipgrad.boost.judge import NEITHER, Contestant
from skipgrad.boost.space import options_of
from skipgrad.boost.target import Target
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import Run
from skipgrad.core.strict import finite
from skipgrad.core.units import number, seconds

SCHEMA = 2


@dataclass(frozen=True)
class BoostResult:
    """What a race said.

    Attributes:
        target: what was raced to.
        baseline: the tuned baseline.
        contestants: everybody else, the best first; those that refused last.
        sentence: the answer.
        winner: the name of the one that helped most; None when none did.
        recipe: the recipe with the settings of the winner, or of the tuned baseline.
        notes: what to mind.
        q: D_deep / D_shallow at the carried rate, where depth-transfer raced; None where it did not.
        run: everything, as read back from the run file.
        run_path: the run file.
    """

    target: Target
    baseline: Contestant
    contestants: tuple[Contestant, ...]
    sentence: str
    winner: str | None
    recipe: Recipe
    notes: tuple[str, ...]
    run: Run
    run_path: Path
    q: float | None = None

    @property
    def toml(self) -> str:
        """The settings as TOML."""
        return toml_of(self.recipe, self._chosen)

    @property
    def lines(self) -> str:
        """The settings as Python to paste: what is set, and the remedy."""
        return lines_of(self.recipe, self._chosen)

    @property
    def _chosen(self) -> Contestant:
        return next((c for c in self.contestants if c.name == self.winner), self.baseline)

    def to_dict(self) -> dict[str, Any]:
        """The object ``skipgrad boost --json`` prints; infinite and undefined numbers are null in it."""
        told = {key: self.run.meta.get(key) for key in ("model", "data", "fit")}
        return finite(
            {
                "schema": SCHEMA,
                **told,
                "run": str(self.run_path),
                "sentence": self.sentence,
                "winner": self.winner,
                "target": asdict(self.target),
                "baseline": asdict(self.baseline),
                "contestants": [asdict(c) for c in self.contestants],
                "toml": self.toml,
                "notes": list(self.notes),
                "q": self.q,
            }
        )


def sentence_of(target: Target, baseline: Contestant, others: Sequence[Contestant], winner: str | None) -> str:
    """The answer in one sentence."""
    ran = [c for c in others if c.state != "refused"]
    if target.loss is None:
        best = [c for c in ran if c.state == "helped"]
        losses = f"the baseline ends at {number(baseline.final_loss)}"
        if best:
            ours = f"{best[0].name} trains: it ends at {number(best[0].final_loss)}"
            return f"No target: {target.reason}. {ours}, {losses}."
        some = next((c for c in ran if c.reason != NEITHER), None)
        why = f"{some.name}: {some.reason}" if some is not None else "and no cure trains it"
        return f"No target: {target.reason}; {why}."
    if not ran:
        return "Every contestant refused this model: the tuned baseline is all there is."
    if winner is not None:
        one = next(c for c in others if c.name == winner)
        return f"{winner} reaches {number(target.loss)} in {one.reason}."
    there = [c for c in (baseline, *ran) if c.total_seconds is not None and 2 * c.failures < max(1, c.runs)]
    if not there:
        return "No cure beats your tuned baseline, and nobody reaches its loss on most seeds."
    cheap = min(there, key=lambda c: (c.total_seconds, c.name != BASELINE))
    cost = f"{seconds(cheap.total_seconds)}, {seconds(cheap.seconds)} of them for tuning"
    who = "the tuned baseline itself" if cheap.name == BASELINE else cheap.name
    more = "" if cheap.name == BASELINE else f"; the baseline took {seconds(baseline.total_seconds)}"
    return f"No cure beats your tuned baseline; the cheapest way to its loss was {who} ({cost}{more})."


_FIELDS = ("steps", "batch_size", "optimizer", "lr", "weight_decay", "clip", "warmup", "schedule", "precision")


def toml_of(recipe: Recipe, chosen: Contestant) -> str:
    """A recipe file, with the remedy in a comment."""
    told = _call(chosen)
    lines = [f"# {told}" if told else "# no remedy"]
    for name in _FIELDS:
        value = getattr(recipe, name)
        if value is not None:
            lines.append(f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value!r}")
    return "\n".join(lines) + "\n"


def lines_of(recipe: Recipe, chosen: Contestant) -> str:
    """Python to paste: the recipe's settings in a comment, and what applies the remedy."""
    settings = ", ".join(f"{n} {getattr(recipe, n)}" for n in _FIELDS if getattr(recipe, n) is not None)
    return f"# {settings}\n{chosen.lines}" if chosen.lines else f"# {settings}\n"


def _call(chosen: Contestant) -> str:
    if chosen.name in (BASELINE, UNTUNED) or remedy_of(chosen.name) is None:
        return ""
    options = "".join(f", {k}={v!r}" for k, v in options_of(chosen.settings).items())
    return f'skipgrad.remedy("{chosen.name}"{options})'
