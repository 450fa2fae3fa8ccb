"""``skipgrad train``: training for real."""

from __future__ import annotations

from dataclasses import fields, make_dataclass
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_type_hints

from cyclopts import Parameter

from skipgrad.cli._options import DataRef, Json, ModelArgs, ModelRef, flag, model_args
from skipgrad.cli._terminal import answer_console, command_line, print_json, progress, say, stdout_is_ours
from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import Recipe
from skipgrad.core.training import TrainingRecipe, parse_settings

# The statuses that tell apart how it went; a failure has that of every mistake.
FINISHED, FAILED, STOPPED_EARLY, RESUMABLE = 0, 1, 4, 75
STATUS = {"finished": FINISHED, "stopped early": STOPPED_EARLY, "interrupted": RESUMABLE, "failed": FAILED}


def _flags() -> type:
    """The fields of a recipe as options without defaults: what is not given is the named recipe's."""
    hints = get_type_hints(TrainingRecipe)
    options = [(f.name, hints[f.name] | None, None) for f in fields(TrainingRecipe)]
    made = make_dataclass("Flags", options, frozen=True, namespace={"__module__": __name__})
    told = [
        cleandoc(c.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0] for c in (Recipe, TrainingRecipe)
    ]
    made.__doc__ = "Flags.\n\nAttributes:\n" + "\n".join(told)
    return made


if TYPE_CHECKING:
    Flags = TrainingRecipe
else:
    Flags = _flags()


def train(
    model: ModelRef,
    /,
    *,
    data: DataRef,
    out: Annotated[Path, Parameter(help="the folder; a training that was interrupted in it goes on")],
    recipe: Annotated[str | None, Parameter(help="a recipe of skipgrad's by its name, or a TOML file")] = None,
    set_: Annotated[
        list[str] | None, Parameter(name="--set", negative="", help="KEY=VALUE of the recipe; repeatable")
    ] = None,
    flags: Annotated[Flags, Parameter(name="*", negative="", show_default=False)] = Flags(),  # noqa: B008 - frozen
    threads: Annotated[
        str | None, Parameter(help="a number; auto tries on a few steps; all this process may use when not given")
    ] = None,
    save_every: Annotated[float, Parameter(help="seconds between two checkpoints")] = 60.0,
    resume: Annotated[bool, flag("go on, and refuse to begin anew")] = False,
    strategy: Annotated[str, Parameter(help="under torchrun: ddp, or fsdp for weights spread over processes")] = "ddp",
    log: Annotated[
        list[str] | None,
        Parameter(negative="", help="csv, tensorboard, wandb, mlflow …: rows go there, too; repeatable"),
    ] = None,
    skip_bad: Annotated[
        bool, flag("read all samples first, leave out those that cannot be read, and count them")
    ] = False,
    remedy: Annotated[str | None, Parameter(help="edit the fresh model by this remedy, and train that")] = None,
    remedy_arg: Annotated[
        list[str] | None, Parameter(negative="", help="NAME=VALUE, a setting of the remedy's; repeatable")
    ] = None,
    show: Annotated[bool, Parameter(name="--show-recipe", negative="", help="print the recipe and end")] = False,
    model_arg: ModelArgs = None,
    json: Json = False,
) -> int:
    """Train MODEL on DATA by a recipe; killed at any moment, the same command goes on."""
    args = model_args(model_arg)
    given = {f.name: v for f in fields(Flags) if (v := getattr(flags, f.name)) is not None}

    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.models import fit
    from skipgrad.race import prepare_with
    from skipgrad.train.job import TrainOptions, named_recipe
    from skipgrad.train.job import train as run_train

    chosen = named_recipe(recipe).with_values({**parse_settings(set_ or ()), **given})
    if show:
        print(chosen.to_toml(), end="")
        return FINISHED
    prepare, settings = None, model_args(remedy_arg, option="--remedy-arg")
    if remedy is not None:
        with stdout_is_ours():
            work = fit(model, args, data, batch_size=chosen.batch_size)
        prepare = prepare_with(remedy, work, device=chosen.device, options=settings)
    elif settings:
        raise BadInput("reading --remedy-arg", received=f"{remedy_arg}, and no --remedy", todo="name the remedy")
    options = TrainOptions(
        model=model,
        data=data,
        out=out,
        model_args=args,
        recipe=chosen,
        threads=threads,
        save_every=save_every,
        resume=resume,
        skip_bad=skip_bad,
        log=tuple(log or ()),
        command=command_line(),
        strategy=strategy,
        treatment="" if remedy is None else " ".join((remedy, *(f"{k}={v!r}" for k, v in settings.items()))),
    )
    with progress() as tell, stdout_is_ours():
        result = run_train(options, tell, prepare=prepare)
    if result.rank:
        return STATUS[result.state]  # the process of rank 0 speaks for all
    if json:
        print_json(result.to_dict())
    else:
        console = answer_console()
        console.print(result.summary(), markup=False)
    if result.state != "finished":
        say(f"{result.state}: {result.reason}")
    return STATUS[result.state]
