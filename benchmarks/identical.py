"""Seeded numbers before and after a refactor: what find answers, what the ledger measures, what a race loses.

    python benchmarks/identical.py --out before.json      # at the old commit
    python benchmarks/identical.py --against before.json  # at the new one: exits 1 and names what differs

Graphs are those of every architecture in the tests' tables (181), as JSON; ledger rows those of ten nets trained for
three steps, bit for bit; losses those of every trial of a check (patient, cure, rates, seeds). On one machine, one
thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

import skipgrad as sg
from skipgrad.models import fit

ROOT = Path(__file__).resolve().parents[1]
NETS = (
    ("skipgrad:plain20", "digits"),
    ("skipgrad:resnet20", "digits"),
    ("skipgrad:preresnet20", "digits"),
    ("skipgrad:densenet22", "digits"),
    ("skipgrad:highway4", "digits"),
    ("skipgrad:unet", "shapes"),
    ("skipgrad:preln4", "text"),
    ("skipgrad:postln4", "text"),
    ("torchvision:resnet18", "digits"),
    ("transformers:gpt2", "text"),
)
GPT2 = {"n_layer": 2, "n_embd": 64, "n_head": 4}
STEPS = 3


def digest(value: Any) -> str:
    """A short hash of a value's ``repr``, which tells floats apart to the last bit."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


class _Graphs:
    """Notes every graph the tests hold against their tables."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        sys.path.insert(0, str(ROOT / "tests"))
        import finder.zoo as zoo  # the tests' own; on the path from here on

        check = zoo.check

        def noted(row: Any, graph: sg.SkipGraph) -> None:
            check(row, graph)
            self.found[f"find {row.model}"] = digest(graph.to_dict())

        zoo.check = noted
        tables = [str(ROOT / "tests" / "finder" / f"test_zoo_{name}.py") for name in ("vision", "language")]
        quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        status = pytest.main([*quiet, "-x", "-n", "0", f"--rootdir={ROOT}", *tables])
        if status:
            raise SystemExit(f"the tables' own tests fail (status {int(status)}): nothing to compare")
        return self.found


def ledger_rows() -> dict[str, str]:
    """Skip rows, layer rows and weights of each net after three watched steps."""
    out: dict[str, str] = {}
    for model, data in NETS:
        torch.manual_seed(0)
        workload = fit(model, GPT2 if model.endswith("gpt2") else {}, data, batch_size=8)
        net = workload.build()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        with sg.watch(net, optimizer=optimizer) as ledger:
            for _, batch in zip(range(STEPS), workload.batches(0), strict=False):
                optimizer.zero_grad()
                workload.loss(net(*batch.args, **batch.kwargs), batch).backward()
                optimizer.step()
        out[f"ledger {model}"] = digest((ledger.rows(), ledger.layers(), ledger.notes))
        weights = torch.cat([p.detach().double().flatten() for p in net.parameters()])
        out[f"weights {model}"] = hashlib.sha256(weights.numpy().tobytes()).hexdigest()[:16]
    return out


def race_losses() -> dict[str, str]:
    """Losses, findings and verdicts of a check, through the command line."""
    from skipgrad.cli import main

    out: dict[str, str] = {}
    for model, extra in (("skipgrad:plain20", ()), ("skipgrad:resnet20", ("--try", "zero-init"))):
        with tempfile.TemporaryDirectory() as folder:
            status = main(["check", model, "--data", "digits", "--steps", "12", *extra, "--out", folder, "--json"])
            assert not status, status
            run = sg.read_run(Path(folder) / "run.sqlite")
        losses = [(p.trial, p.step, p.loss) for p in run.losses]
        out[f"check losses {model}"] = digest(losses)
        out[f"check findings {model}"] = digest([(f.code, f.state, f.where, f.evidence) for f in run.findings])
        verdicts = [(c.remedy, c.state, c.best_loss, c.patient_best_loss, c.steps_ratio) for c in run.cures]
        out[f"check cures {model}"] = digest(verdicts)
    return out


def main() -> int:
    """Takes the numbers down, and compares them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the digests here")
    parser.add_argument("--against", type=Path, help="compare with digests written before")
    parser.add_argument("--only", choices=("find", "ledger", "race"), action="append", help="a part; repeatable")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"ledger": ledger_rows, "race": race_losses, "find": _Graphs().run}
    now: dict[str, str] = {}
    for name, take in parts.items():
        if args.only is None or name in args.only:
            now |= take()
    if args.out is not None:
        args.out.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    if args.against is None:
        print(f"{len(now)} digests taken", file=sys.stderr)
        return 0
    before: dict[str, str] = json.loads(args.against.read_text())
    kinds = {key.split()[0] for key in now}
    before = {k: v for k, v in before.items() if k.split()[0] in kinds}
    differing = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    for key in differing:
        print(f"differs: {key}: {before.get(key, 'not there')} → {now.get(key, 'not there')}")
    print(f"{len(before)} digests before, {len(now)} now, {len(differing)} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
