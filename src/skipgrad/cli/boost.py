"""``skipgrad boost``: remedies raced against the tuned baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from skipgrad.cli._contestants import show_race
from skipgrad.cli._options import DataRef, Json, ModelArgs, ModelRef, Threads, Training, Try, model_args
from skipgrad.cli._terminal import answer_console, command_line, print_json, progress, stdout_is_ours
from skipgrad.core.recipe import Recipe


def boost(
    model: ModelRef,
    /,
    *,
    data: DataRef,
    recipe: Training = Recipe(),  # noqa: B008 - frozen
    trials: Annotated[
        int, Parameter(validator=Number(gte=1), help="tuning trials of each contestant, the first as typed")
    ] = 8,
    seeds: Annotated[
        int, Parameter(validator=Number(gte=1), help="fresh seeds by which the tuned contestants are judged")
    ] = 5,
    budget: Annotated[str | None, Parameter(help="time for it all, e.g. 20m, in place of --steps")] = None,
    target: Annotated[str, Parameter(help="the loss to reach; auto: by the tuned baseline")] = "auto",
    ruleset: Annotated[
        Literal["tuned", "self-tuning"],
        Parameter(help="self-tuning: cures run at the typed rate, a tenth and ten times it, without tuning"),
    ] = "tuned",
    tune_at_depth: Annotated[
        int | None,
        Parameter(validator=Number(gte=1), help="race depth-transfer too: tuned on the same net of this depth"),
    ] = None,
    holdout: Annotated[
        float | None,
        Parameter(help="share of the data held out, whose loss is raced; the data's test part, if any, when not given"),
    ] = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1), help="trials side by side, one thread each")] = 1,
    ray: Annotated[
        str | None, Parameter(help="run trials on the Ray cluster at this address; local starts one")
    ] = None,
    threads: Threads = "auto",
    try_: Try = None,
    out: Annotated[
        Path | None, Parameter(help="folder of the finished trials and the run file; repeat with it to go on")
    ] = None,
    model_arg: ModelArgs = None,
    json: Json = False,
) -> int:
    """Race remedies for MODEL on DATA against the tuned baseline, the best first."""
    args = model_args(model_arg)

    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.boost import BoostOptions, boost_job
    from skipgrad.boost.options import duration, target_of

    options = BoostOptions(
        model=model,
        data=data,
        model_args=args,
        recipe=recipe,
        trials=trials,
        seeds=seeds,
        budget=None if budget is None else duration(budget),
        target=target_of(target),
        ruleset=ruleset,
        tune_at_depth=tune_at_depth,
        holdout=holdout,
        workers=workers,
        ray=ray,
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
        show_race(result, console)
        console.print(f"\nrun file: {result.run_path} (skipgrad report {result.run_path})", highlight=False)
    return 0
