"""``skipgrad lab``: claims about skip connections as experiments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from skipgrad.cli._options import Json, ModelArgs, Threads, flag, model_args
from skipgrad.cli._tables import show_claims, show_verdict
from skipgrad.cli._terminal import SCHEMA, answer_console, print_json, progress, say, stdout_is_ours
from skipgrad.core.errors import BadInput

if TYPE_CHECKING:
    from skipgrad.lab import Claim


def by_topic(claims: Sequence[Claim]) -> tuple[list[Claim], list[Claim]]:
    """The applications, and the other claims."""
    apps = [c for c in claims if c.topic == "application"]
    return apps, [c for c in claims if c not in apps]


def lab(
    *claim: Annotated[
        str, Parameter(help="ids of claims, e.g. D1; apps for all applications; all are listed when none is given")
    ],
    all_: Annotated[
        bool, Parameter(name="--all", negative="", show_default=False, help="every claim but the applications")
    ] = False,
    quick: Annotated[bool, flag("the short version of the experiments")] = False,
    seeds: Annotated[
        int | None, Parameter(validator=Number(gte=1), help="how many seeds; each claim's own number when not given")
    ] = None,
    scale: Annotated[Literal["two-cores", "gpu"], Parameter(help="the size of the experiments")] = "two-cores",
    model: Annotated[str | None, Parameter(help="ask it of this model in place of the claim's nets")] = None,
    data: Annotated[str | None, Parameter(help="what that model is trained on")] = None,
    model_arg: ModelArgs = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1), help="seeds side by side, one thread each")] = 1,
    ray: Annotated[str | None, Parameter(help="run seeds on the Ray cluster at this address; local starts one")] = None,
    threads: Threads = "auto",
    out: Annotated[Path, Parameter(help="folder of the results; what is finished there is not run again")] = Path(
        "skipgrad-lab"
    ),
    gallery: Annotated[Path | None, Parameter(help="write a static site of the results into this folder")] = None,
    json: Json = False,
) -> int:
    """Test claims about skip connections by experiment; list them, with their last verdicts, when none is named."""
    args = model_args(model_arg)
    if (model is None) != (data is None):
        raise BadInput("reading --model and --data", received="one of the two", todo="give both, or neither")
    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad import __version__
    from skipgrad.instrument.threads import Threads as Chooser
    from skipgrad.lab import CLAIMS, Store, Subject, run_claim, run_together, spread_of, write_gallery

    console = answer_console()
    store = Store(out, __version__)
    apps, others_ = by_topic([c for _, c in CLAIMS.items()])
    # An unknown one is told before the first experiment.
    named = [c for name in claim for c in (apps if name.lower() == "apps" else [CLAIMS.get(name.upper())])]
    claims = list({c.id: c for c in [*(others_ if all_ else []), *named]}.values())
    if gallery is not None:
        page = write_gallery(store, gallery)
        if not claims:
            print_json({"schema": SCHEMA, "gallery": str(page)}) if json else console.print(f"gallery: {page}")
            return 0
    if not claims:
        known = [(c, store.verdict(c)) for c in [*others_, *apps]]
        if json:
            fields = ("id", "title", "statement", "anchor", "criterion", "duration")
            told = [{f: getattr(c, f) for f in fields} | {"verdict": v.state if v else None} for c, v in known]
            print_json({"schema": SCHEMA, "claims": told})
        else:
            show_claims(known, console, CLAIMS.notes)
        return 0
    subject = Subject(model, data, args) if model is not None and data is not None else None
    spread = spread_of(workers, ray)
    verdicts = []
    with progress() as show, stdout_is_ours(), Chooser(threads) as chooser, spread or nullcontext():
        for c in claims:
            others = store.others(c)
            if others:
                say(f"{c.id}: {len(others)} results of another version are kept in {out} and not counted")
        if spread is not None:
            run_together(
                [c.id for c in claims],
                spread,
                store,
                quick=quick,
                seeds=None if seeds is None else range(seeds),
                tell=lambda p: show("claims", p.done, p.total, p.doing),
                scale=scale,
                subject=subject,
            )
        for c in claims:
            verdicts.append(
                run_claim(
                    c.id,
                    quick=quick,
                    seeds=None if seeds is None else range(seeds),
                    tell=lambda p: show(f"claim {p.claim}", p.done, p.total, p.doing),
                    threads=chooser,
                    store=store,
                    scale=scale,
                    subject=subject,
                )
            )
    if gallery is not None:
        say(f"gallery: {write_gallery(store, gallery)}")
    if json:
        print_json({"schema": SCHEMA, "verdicts": [asdict(v) for v in verdicts]})
    else:
        for known_, verdict in zip(claims, verdicts, strict=True):
            show_verdict(known_, verdict, console)
    return 0
