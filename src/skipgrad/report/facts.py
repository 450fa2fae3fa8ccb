"""How to read and repeat the run: what was not understood, what is missing, versions, seeds and the command."""

from __future__ import annotations

from typing import Any

from skipgrad.core import Run
from skipgrad.report.marks import found
from skipgrad.report.text import clean, figure, plural, value

# What has a place of its own in the report; other entries of the meta are listed after them.
_KNOWN = (
    *("model", "data", "fit", "command", "seed", "steps", "batch_size", "optimizer", "lr", "device", "precision"),
    *("versions", "state", "report", "started", "error", "account"),
)


def facts(run: Run) -> tuple[tuple[str, str], ...]:
    """Label and text, in the order a person would ask for them."""
    meta = run.meta
    out: list[tuple[str, str]] = [("model", value(meta.get("model", "not recorded")))]
    if "data" in meta:
        out.append(("data", value(meta["data"])))
    if meta.get("fit"):
        out.append(("fit", "; ".join(value(sentence) for sentence in _sentences(meta["fit"]))))
    training = [plural(int(meta["steps"]), "step")] if isinstance(meta.get("steps"), int) else []
    if "batch_size" in meta:
        training.append(f"batches of {value(meta['batch_size'])}")
    if "optimizer" in meta:
        training.append(value(meta["optimizer"]))
    if isinstance(meta.get("lr"), (int, float)):
        training.append(f"learning rate {figure(float(meta['lr']))}")
    if training:
        out.append(("training", ", ".join(training)))
    account = run.account
    if account is not None:
        out.append(("measured", "; ".join(clean(line) for line in account.lines())))
    if run.trials:
        seeds = sorted({t.seed for t in run.trials})
        rates = sorted({t.rate for t in run.trials})
        out.append(
            ("trials", f"{len(run.trials)}, seeds {value(seeds)}, learning rates {', '.join(figure(r) for r in rates)}")
        )
    if "seed" in meta:
        out.append(("seed", value(meta["seed"])))
    machine = [value(meta[k]) for k in ("device", "precision") if k in meta]
    if machine:
        out.append(("device", ", ".join(machine)))
    if meta.get("versions"):
        out.append(("versions", value(meta["versions"])))
    if "started" in meta:
        out.append(("started", value(meta["started"])))
    out.append(("state", value(meta.get("state", "not recorded"))))
    out += [(clean(k).replace("_", " "), value(v)) for k, v in meta.items() if k not in _KNOWN]
    if run.path:
        out.append(("run file", clean(run.path)))
    return tuple(out)


def not_understood(run: Run) -> tuple[str, ...]:
    """Ops without a rule, merges that are no skips, checks that could not judge, and the run's notes."""
    graph = run.graph
    out: list[str] = []
    if graph:
        out += [
            f"op {clean(u.op)} in {clean(u.module) or 'the model itself'} has no rule (met {plural(u.count, 'time')}); "
            "paths through it are taken as non-linear and weightless"
            for u in graph.unknown
        ]
        out += [f"{clean(o.name) or 'the model itself'} is no skip ({o.kind}): {clean(o.reason)}" for o in graph.others]
        out += [clean(note) for note in graph.notes]
    out += [clean(note) for note in run.notes]
    out += [
        f"{clean(f.code)} {clean(f.title)}: {f.state}, {clean(f.prescription) or 'no reason given'}"
        for f in run.findings
        if f.state in ("skipped", "not applicable")
    ]
    return tuple(dict.fromkeys(out))


def missing(run: Run) -> tuple[str, ...]:
    """What a finished run has and this one lacks, one sentence each."""
    out = []
    state = run.meta.get("state")
    if state in ("interrupted", "failed"):
        error = f": {clean(run.meta['error'])}" if run.meta.get("error") else ""
        out.append(f"The run {'was interrupted' if state == 'interrupted' else 'failed'}{error}.")
    elif state == "running":
        out.append("The run had not ended when this was written.")
    if run.graph is None:
        out.append("It ended before the skip connections were found.")
    if not any(run.layer_rows.values()):
        out.append("No layer's gradient was measured.")
    if (run.graph is None or run.graph.skips) and not any(run.skip_rows.values()):
        out.append("No skip's gradient was measured.")
    if not run.findings:
        out.append("It was not diagnosed.")
    if not run.cures and (found(run) or not run.findings):
        out.append("No remedy was tried.")
    if not run.losses:
        out.append("No loss was recorded.")
    out += [
        f"Trial {t.id} ({clean(t.remedy or 'patient')}, learning rate {figure(t.rate)}, seed {t.seed}) {t.state}."
        for t in run.trials
        if t.state in ("diverged", "interrupted")
    ][:6]
    return tuple(out)


def _sentences(fit: Any) -> list[Any]:
    return list(fit) if isinstance(fit, (list, tuple)) else [fit] if fit else []
