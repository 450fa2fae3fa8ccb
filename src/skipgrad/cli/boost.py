"""``skipgrad boost``: remedies raced under equal budgets."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from skipgrad.cli._options import (
    BatchSize,
    Compile,
    DataRef,
    Device,
    Json,
    ModelArgs,
    ModelRef,
    Precision,
    Threads,
    Try,
    model_args,
)
from skipgrad.cli._tables import show_cures
from skipgrad.cli._terminal import SCHEMA, answer_console, print_json, progress, stdout_is_ours

if TYPE_CHECKING:
    from skipgrad.cli._terminal import ProgressCallback


def boost(
    model: ModelRef,
    /,
    *,
    data: DataRef,
    steps: Annotated[int, Parameter(validator=Number(gte=1), help="steps of a trial")] = 200,
    batch_size: BatchSize = 64,
    optimizer: Annotated[str, Parameter(help="sgd, adam or adamw")] = "sgd",
    lr: Annotated[float, Parameter(validator=Number(gt=0), help="middle of the grid of learning rates")] = 0.1,
    seeds: Annotated[int, Parameter(validator=Number(gte=1), help="how many seeds are compared")] = 3,
    device: Device = "cpu",
    precision: Precision = "float32",
    compile: Compile = False,
    threads: Threads = "auto",
    try_: Try = None,
    model_arg: ModelArgs = None,
    json: Json = False,
) -> int:
    """Race remedies for MODEL on DATA under equal budgets, the best first."""
    args = model_args(model_arg)

    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.boost import boost as run_boost
    from skipgrad.instrument.threads import Threads as Chooser
    from skipgrad.models import fit
    from skipgrad.train import Settings

    with progress() as show, stdout_is_ours(), Chooser(threads) as chooser:
        settings = Settings(
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,  # pyright: ignore[reportArgumentType] – Settings answers a wrong name
            lr=lr,
            device=device,
            precision=precision,  # pyright: ignore[reportArgumentType]
            compile=compile,
        )
        workload = fit(model, args, data, batch_size=batch_size)
        cures = run_boost(workload, settings, try_, seeds=tuple(range(seeds)), on_event=_teller(show), threads=chooser)
    if json:
        told = {"model": model, "data": data, "fit": list(workload.fit), "cures": [asdict(c) for c in cures]}
        print_json({"schema": SCHEMA, **told})
    else:
        show_cures(cures, answer_console())
    return 0


def _teller(show: ProgressCallback) -> Any:
    """Race events as progress: how many trials ended, and how the last one did."""
    from skipgrad.race import Dropped, Finished

    ended = 0

    def tell(event: Any) -> None:
        nonlocal ended
        if isinstance(event, Finished):
            ended += 1
            trial = event.result.trial
            show(
                "racing",
                ended,
                0,
                f"{trial.remedy or 'patient'}, rate {trial.rate:g}, seed {trial.seed}: {trial.state}",
            )
        elif isinstance(event, Dropped):
            show("racing", ended, 0, f"{event.remedy} leaves: {event.reason}")

    return tell
