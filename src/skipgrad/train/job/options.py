"""What a training is asked for, and what became of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from skipgrad.core import Finding
from skipgrad.core.strict import finite
from skipgrad.core.training import TrainingRecipe

State = Literal["finished", "stopped early", "interrupted", "failed"]
STATES: tuple[State, ...] = ("finished", "stopped early", "interrupted", "failed")
SCHEMA = 1


@dataclass(frozen=True)
class TrainOptions:
    """What to train, and where to.

    Attributes:
        model: its reference.
        data: their reference.
        out: the folder. A training that was interrupted in it goes on.
        model_args: arguments of the model's constructor.
        recipe: how.
        threads: torch's; as many as this process may use when not given; "auto" tries on a few steps that are thrown
            away. A training that goes on keeps its number.
        save_every: seconds from one checkpoint to the next, at least. Changes no figure.
        resume: refuse to begin anew: there must be a checkpoint.
        skip_bad: leave out samples that cannot be read, and say how many; all are read once before the first step.
        treatment: the name of what edits the model (`train`'s ``prepare``); part of what must be the same to go on.
        log: kinds of writers that get the rows, too.
        command: the command to repeat it with, for the report.
        strategy: with several processes, how the model is spread: ddp or fsdp.
        timeout: seconds after which processes give up waiting for one another.
    """

    model: str
    data: str
    out: str | Path
    model_args: dict[str, Any] = field(default_factory=dict)
    recipe: TrainingRecipe = field(default_factory=TrainingRecipe)
    threads: int | str | None = None
    save_every: float = 60.0
    resume: bool = False
    skip_bad: bool = False
    treatment: str = ""
    log: tuple[str, ...] = ()
    command: str = ""
    strategy: str = "ddp"
    timeout: float = 300.0


@dataclass(frozen=True)
class TrainResult:
    """What became of a training.

    Attributes:
        state: finished, stopped early (patience), interrupted (give the same command again), or failed.
        step: steps taken.
        steps: steps asked for.
        loss: of the last step.
        evaluations: one record an evaluation: ``step``, ``epoch``, ``loss`` and the task's own figure.
        best: the best of them; None when nothing was held out.
        metric: the name of the figure that decides which is best.
        folder: where run file and weights are.
        findings: of the diagnosis; () when the training is not over or nothing was measured.
        reason: why it failed or stopped, in one sentence; empty when it finished.
        rank: of the process; the one of rank 0 speaks for all.
    """

    state: State
    step: int
    steps: int
    loss: float | None
    evaluations: tuple[dict[str, Any], ...]
    best: dict[str, Any] | None
    metric: str
    folder: Path
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    rank: int = 0

    def summary(self) -> str:
        """What became of it, in a few lines."""
        lines = [f"{self.state} after {self.step:,} of {self.steps:,} steps" + (f": {self.reason}" * bool(self.reason))]
        if self.best is not None:
            best, last = self.best, self.evaluations[-1]
            lines.append(
                f"{self.metric} {best[self.metric]:.4g} at its best (epoch {best['epoch']:.4g}), "
                f"{last[self.metric]:.4g} at the end"
            )
        for finding in self.findings:
            if finding.state == "found" and finding.severity != "info":
                lines.append(f"{finding.code} {finding.title}: {finding.prescription}")
        lines.append(f"weights: {self.folder / 'best.safetensors'}, {self.folder / 'last.safetensors'}")
        lines.append(f"report:  skipgrad report {self.folder}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The object ``skipgrad train --json`` prints."""
        told = asdict(self) | {"schema": SCHEMA, "folder": str(self.folder)}
        return finite(told)
