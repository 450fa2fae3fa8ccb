"""A Fabric loop with and without the watch."""

from __future__ import annotations

import subprocess
import sys
import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch

import skipgrad
from skipgrad.core import BadInput
from skipgrad.store import read_run
from skipgrad.writers import CsvWriter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what lightning warns about on import is its own affair
    from lightning.fabric import Fabric

    from skipgrad.integrations.fabric import watch

# Lightning's own advice and deprecations, none of it about skipgrad.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning", "ignore:.*:Warning")


def fit(
    net: torch.nn.Module,
    batches: list[torch.Tensor],
    *,
    watched: bool,
    precision: Any = "32-true",
    accumulate: int = 1,
    fails_at: int | None = None,
    looks: Any = None,
    **kwargs: Any,
) -> Any:
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    inner = torch.optim.Adam(net.parameters(), lr=0.01)
    model, optimizer = fabric.setup(net, inner)
    before = looks(net, inner) if looks else None
    watching = watch(fabric, model, optimizer, **kwargs) if watched else nullcontext()
    try:
        with watching as ledger:
            for index, x in enumerate(batches):
                if index == fails_at:
                    raise RuntimeError("a fault of the user's")
                last = (index + 1) % accumulate == 0
                with fabric.no_backward_sync(model, enabled=not last):
                    loss = model(x).square().mean() / accumulate
                    fabric.backward(loss)
                if ledger is not None:
                    ledger.loss(loss.item())
                if last:
                    optimizer.step()
                    optimizer.zero_grad()
    finally:
        if looks:
            assert looks(net, inner) == before
    return ledger


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_watched_loop_gives_the_same_bits_and_leaves_nothing_behind(
    tiny: Any, batches: Any, same_bits: Any, traces: Any, precision: str, accumulate: int
) -> None:
    plain, watched = tiny(), tiny()
    fit(plain, batches, watched=False, precision=precision, accumulate=accumulate)
    ledger = fit(watched, batches, watched=True, precision=precision, accumulate=accumulate, looks=traces)
    same_bits(plain, watched)
    rows = [(r.skip, r.step, r.micro) for r in ledger.rows()]
    steps = len(batches) // accumulate
    assert sorted(rows) == [(s, t, m) for s in ("1", "2") for t in range(steps) for m in range(accumulate)]
    assert all(r.finite and r.skip_norm > 0 and r.branch_norm > 0 for r in ledger.rows())
    layers = ledger.layers()
    assert sorted({r.step for r in layers}) == list(range(steps))
    assert all(r.update_norm for r in layers)
    assert ledger.notes == []


def test_the_figures_are_those_of_a_plain_watch(tiny: Any, batches: Any) -> None:
    ledger = fit(tiny(), batches, watched=True)
    net = tiny()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    with skipgrad.watch(net, None, optimizer) as plain:
        for x in batches:
            net(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert ledger.rows() == plain.rows()
    assert ledger.layers() == plain.layers()


def test_the_run_file_and_writers_get_every_step(tiny: Any, batches: Any, tmp_path: Any) -> None:
    writers = [CsvWriter(tmp_path / "tables")]
    ledger = fit(tiny(), batches, watched=True, run=tmp_path / "fit.sqlite", writers=writers, steps=6)
    run = read_run(tmp_path / "fit.sqlite")
    assert (run.meta["state"], run.meta["model"], run.meta["steps"]) == ("done", "Sequential", 6)
    assert run.graph is not None
    assert [s.name for s in run.graph] == ["1", "2"]
    assert run.skip_rows[0] == tuple(ledger.rows())
    assert run.layer_rows[0] == tuple(ledger.layers())
    assert [p.step for p in run.losses] == list(range(6))
    assert (run.trials[0].state, run.trials[0].rate) == ("done", 0.01)
    assert len((tmp_path / "tables" / "skips.csv").read_text().splitlines()) == 13


def test_after_an_exception_nothing_is_left_and_the_rows_are_kept(
    tiny: Any, batches: Any, traces: Any, tmp_path: Any
) -> None:
    with pytest.raises(RuntimeError, match="the user's"):
        fit(tiny(), batches, watched=True, fails_at=3, looks=traces, run=tmp_path / "fit.sqlite")
    run = read_run(tmp_path / "fit.sqlite")
    assert (run.meta["state"], run.trials[0].state, run.meta["steps"]) == ("failed", "interrupted", 3)
    assert run.meta["error"].startswith("RuntimeError: ")
    assert {r.step for r in run.skip_rows[0]} == {0, 1, 2}


def test_a_model_that_was_not_set_up_is_refused(tiny: Any) -> None:
    net = tiny()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    fabric = Fabric(accelerator="cpu", devices=1)
    with pytest.raises(BadInput, match=r"fabric\.setup"):
        watch(fabric, net, optimizer)
    model, _ = fabric.setup(net, optimizer)
    with pytest.raises(BadInput, match="optimizer"):
        watch(fabric, model, optimizer)


@pytest.mark.slow
def test_a_missing_library_says_which_extra_to_install() -> None:
    code = """
import sys
sys.modules["lightning"] = None
sys.modules["lightning.fabric"] = None
try:
    import skipgrad.integrations.fabric
except Exception as error:
    print(type(error).__name__, "skipgrad[train]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtra", "True"]
