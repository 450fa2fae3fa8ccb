"""What a check is asked to do, and what it answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skipgrad.core import Recipe, Run, SkipGraph
from skipgrad.core.strict import finite

SCHEMA = 1


@dataclass(frozen=True)
class CheckOptions:
    """What to check, and how.

    Attributes:
        model: reference, e.g. ``"torchvision:resnet18"``.
        data: reference, e.g. ``"digits"``.
        model_args: arguments for the model's constructor.
        recipe: of every trial; its rate is the middle of the grid, its seed the first. No weight decay unless it says
            so: decay moves weights that the gradient no longer moves.
        threads: ``"auto"``, a number, or None to leave torch's own.
        out: folder of run file and report; a new one under ``skipgrad-runs`` when None.
        attempt: try remedies.
        remedies: these, instead of those the findings prescribe.
        command: the command to repeat it with, for the report.
    """

    model: str
    data: str
    model_args: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    threads: str | int | None = None
    out: str | Path | None = None
    attempt: bool = True
    remedies: tuple[str, ...] = ()
    command: str = ""


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
        return finite(
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
