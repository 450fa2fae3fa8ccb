"""What a check is asked to do, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skipgrad.core import Run, SkipGraph

SCHEMA = 1

# stage, steps done, steps in all, what is going on
Progress = Callable[[str, int, int, str], Any]


@dataclass(frozen=True)
class CheckOptions:
    """What to check, and how.

    Attributes:
        model: reference, e.g. ``"torchvision:resnet18"``.
        data: reference, e.g. ``"digits"``.
        model_args: arguments for the model's constructor.
        steps: optimizer steps of every trial; `STEPS` when None.
        batch_size: samples a step.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``; by the task when None.
        lr: middle of the grid of rates; by the optimizer when None.
        seed: the first of the seeds.
        device: ``"cpu"``, ``"cuda"`` …
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"``.
        compile: run the models through ``torch.compile``.
        out: folder of run file and report; a new one under ``skipgrad-runs`` when None.
        attempt: try remedies.
        remedies: these, instead of those the findings prescribe.
        command: the command to repeat it with, for the report.
        threads: ``"auto"`` or a number; torch's own is left alone when None. See `skipgrad.instrument.threads.Threads`.
    """

    model: str
    data: str
    model_args: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    batch_size: int = 64
    optimizer: str | None = None
    lr: float | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    compile: bool = False
    out: str | Path | None = None
    attempt: bool = True
    remedies: tuple[str, ...] = ()
    command: str = ""
    threads: str | int | None = None


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        run: everything, as read back from the run file.
        run_path: the run file.
        report_path: the HTML page.
    """

    run: Run
    run_path: Path
    report_path: Path

    def to_dict(self) -> dict[str, Any]:
        """The object ``skipgrad check --json`` prints; infinite and undefined numbers are null in it."""
        measured = self.run.measurements()
        return _finite(
            {
                "schema": SCHEMA,
                "run": str(self.run_path),
                "report": str(self.report_path),
                "graph": (self.run.graph or SkipGraph(())).to_dict(),
                "steps": self.run.meta.get("steps"),
                "losses": [p.loss for p in measured.losses],
                "paths": self.run.path_records(),
                "findings": [asdict(f) for f in self.run.findings],
                "cures": [asdict(c) for c in self.run.cures],
                "fit": self.run.meta.get("fit"),
                "notes": list(self.run.notes),
            }
        )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
