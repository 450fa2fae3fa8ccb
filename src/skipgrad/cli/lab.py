"""``skipgrad lab``: claims about skip connections as experiments."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from skipgrad.cli._options import Json, Threads, flag
from skipgrad.cli._tables import show_claims, show_verdict
from skipgrad.cli._terminal import SCHEMA, answer_console, print_json, progress, stdout_is_ours


def lab(
    *claim: Annotated[str, Parameter(help="ids of claims, e.g. D1; all are listed when none is given")],
    quick: Annotated[bool, flag("the short version of the experiments")] = False,
    threads: Threads = "auto",
    json: Json = False,
) -> int:
    """Test claims about skip connections by experiment; list them when none is named."""
    # Deferred: torch takes a second, and `skipgrad --help` has half of one. See README.md here.
    from skipgrad.instrument.threads import Threads as Chooser
    from skipgrad.lab import CLAIMS, run_claim

    console = answer_console()
    claims = [CLAIMS.get(name.upper()) for name in claim]  # an unknown one is told before the first experiment
    if not claims:
        known = [c for _, c in CLAIMS.items()]
        if json:
            fields = ("id", "title", "statement", "anchor", "criterion", "duration")
            print_json({"schema": SCHEMA, "claims": [{f: getattr(c, f) for f in fields} for c in known]})
        else:
            show_claims(known, console, CLAIMS.notes)
        return 0
    with progress() as show, stdout_is_ours(), Chooser(threads) as chooser:
        verdicts = [
            run_claim(
                c.id,
                quick=quick,
                tell=lambda p: show(f"claim {p.claim}", p.done, p.total, p.doing),
                threads=chooser,
            )
            for c in claims
        ]
    if json:
        print_json({"schema": SCHEMA, "verdicts": [asdict(v) for v in verdicts]})
    else:
        for known, verdict in zip(claims, verdicts, strict=True):
            show_verdict(known, verdict, console)
    return 0
