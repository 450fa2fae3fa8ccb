"""``skipgrad boost``: remedies raced under equal budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from skipgrad.cli._options import DataRef, Json, ModelArgs, ModelRef, Threads, Training, Try, model_args
from skipgrad.cli._tables import show_cures
from skipgrad.cli._terminal import answer_console, command_line, print_json, progress, stdout_is_ours
from skipgrad.core.recipe import Recipe


def boost(
    model: ModelRef,
    /,
    *,
    data: DataRef,
    recipe: Training = Recipe(),  # noqa: B008 - frozen
    seeds: Annotated[int, Parameter(validator=Number(gte=1), help="how many seeds are compared")] = 3,
    threads: Threads = "auto",
    try_: Try = None,
    out: Annotated[Path | None, Parameter(help="folder of the run file; a new one when not given")] = None,
    model_arg: ModelArgs = None,
    json: Json = False,
) -> int:
    """Race remedies for MODEL on DATA under equal budgets, the best first."""
    args = model_args(model_arg)

    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.boost import BoostOptions, boost_job

    options = BoostOptions(
        model=model,
        data=data,
        model_args=args,
        recipe=recipe,
        seeds=seeds,
        threads=threads,
        out=out,
        remedies=tuple(try_) if try_ else None,
        command=command_line(),
    )
    with progress() as show, stdout_is_ours():
        result = boost_job(options, progress=show)
    if json:
        print_json(result.to_dict())
    else:
        console = answer_console()
        show_cures(result.cures, console)
        console.print(f"\nrun file: {result.run_path} (skipgrad report {result.run_path})", highlight=False)
    return 0
