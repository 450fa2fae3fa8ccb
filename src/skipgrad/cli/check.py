"""``skipgrad check``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from skipgrad.cli._options import (
    DataRef,
    Json,
    ModelArgs,
    ModelRef,
    Threads,
    Training,
    Try,
    flag,
    model_args,
)
from skipgrad.cli._terminal import answer_console, command_line, print_json, progress, say, stdout_is_ours
from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import SEVERITIES, Severity

FAILED = 3  # the status of --fail-on, told apart from a mistake in the call (1, 2)


def check(
    model: ModelRef,
    /,
    *,
    data: DataRef,
    recipe: Training = Recipe(),  # noqa: B008 - frozen
    threads: Threads = "auto",
    out: Annotated[
        Path | None, Parameter(help="folder of the run file and the report; a new one when not given")
    ] = None,
    no_try: Annotated[bool, flag("diagnose only; try no remedy")] = False,
    try_: Try = None,
    explain: Annotated[
        list[str] | None,
        Parameter(negative="", help="a check's code: what it sees, with this run's figures; repeatable"),
    ] = None,
    fail_on: Annotated[Severity | None, Parameter(help="exit 3 when a finding is this severe, or worse")] = None,
    model_arg: ModelArgs = None,
    json: Json = False,
) -> int:
    """Train MODEL a little on DATA, measure, diagnose, try the cure, report."""
    args = model_args(model_arg)
    if no_try and try_:
        raise BadInput("reading --no-try", received=f"--no-try and --try {try_[0]}", todo="give one of the two")

    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.check import CheckOptions
    from skipgrad.check import check as run_check
    from skipgrad.diagnosis import CHECKS
    from skipgrad.report import explained, terminal

    for code in explain or ():
        CHECKS.get(code)  # a wrong code is told before anything is trained
    options = CheckOptions(
        model=model,
        model_args=args,
        data=data,
        recipe=recipe,
        out=out,
        attempt=not no_try,
        remedies=tuple(try_ or ()),
        command=command_line(),
        threads=threads,
    )
    with progress() as show, stdout_is_ours():
        result = run_check(options, progress=show)
    if json:
        print_json(result.to_dict())
    else:
        terminal(result.run, answer_console())
        for code in explain or ():
            print(f"\n{explained(result.run, code)}")
    if fail_on is None:
        return 0
    severe = SEVERITIES[SEVERITIES.index(fail_on) :]
    hits = [f for f in result.run.findings if f.state == "found" and f.severity in severe]
    if hits:
        say(f"--fail-on {fail_on}: {', '.join(f'{f.code} ({f.severity})' for f in hits)}")
    return FAILED if hits else 0
