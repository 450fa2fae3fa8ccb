"""An Accelerate loop with and without the watch."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from skipgrad.core import BadInput
from skipgrad.store import read_run
from skipgrad.writers import CsvWriter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what accelerate warns about on import is its own affair
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    from skipgrad.integrations.accelerate import watch


@pytest.fixture(autouse=True)
def _a_state_of_its_own() -> Iterator[None]:
    """Accelerate keeps precision and device for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def fit(
    net: torch.nn.Module,
    batches: list[torch.Tensor],
    *,
    watched: bool,
    precision: str = "no",
    accumulate: int = 1,
    fails_at: int | None = None,
    looks: Any = None,
    **kwargs: Any,
) -> Any:
    accelerator = Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=accumulate)
    inner = torch.optim.Adam(net.parameters(), lr=0.01)
    loader = torch.utils.data.DataLoader(torch.cat(batches), batch_size=len(batches[0]))
    model, optimizer, loader = accelerator.prepare(net, inner, loader)
    before = looks(net, inner) if looks else None
    watching = watch(accelerator, model, optimizer, **kwargs) if watched else nullcontext()
    try:
        with watching as ledger:
            for index, x in enumerate(loader):
                if index == fails_at:
                    raise RuntimeError("a fault of the user's")
                with accelerator.accumulate(model):
                    loss = model(x).square().mean()
                    accelerator.backward(loss)
                    if ledger is not None:
                        ledger.loss(loss.item())
                    optimizer.step()
                    optimizer.zero_grad()
    finally:
        if looks:
            assert looks(net, inner) == before
    return ledger


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_watched_loop_gives_the_same_bits_and_leaves_nothing_behind(
    tiny: Any, batches: Any, same_bits: Any, traces: Any, precision: str, accumulate: int
) -> None:
    plain, watched = tiny(), tiny()
    fit(plain, batches, watched=False, precision=precision, accumulate=accumulate)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
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


def test_the_run_file_and_writers_get_every_step(tiny: Any, batches: Any, tmp_path: Any) -> None:
    writers = [CsvWriter(tmp_path / "tables")]
    ledger = fit(tiny(), batches, watched=True, run=tmp_path / "fit.sqlite", writers=writers, every=2)
    run = read_run(tmp_path / "fit.sqlite")
    assert (run.meta["state"], run.meta["model"]) == ("done", "Sequential")
    assert run.graph is not None
    assert [s.name for s in run.graph] == ["1", "2"]
    assert run.skip_rows[0] == tuple(ledger.rows())
    assert sorted({r.step for r in run.layer_rows[0]}) == [0, 2, 4]
    assert [p.step for p in run.losses] == list(range(6))
    assert len((tmp_path / "tables" / "skips.csv").read_text().splitlines()) == 7


def test_after_an_exception_nothing_is_left_and_the_rows_are_kept(
    tiny: Any, batches: Any, traces: Any, tmp_path: Any
) -> None:
    with pytest.raises(RuntimeError, match="the user's"):
        fit(tiny(), batches, watched=True, fails_at=3, looks=traces, precision="bf16", run=tmp_path / "fit.sqlite")
    run = read_run(tmp_path / "fit.sqlite")
    assert (run.meta["state"], run.trials[0].state) == ("failed", "interrupted")
    assert run.meta["error"].startswith("RuntimeError: ")
    assert {r.step for r in run.skip_rows[0]} == {0, 1, 2}


def test_an_optimizer_that_was_not_prepared_is_refused(tiny: Any) -> None:
    net = tiny()
    with pytest.raises(BadInput, match=r"accelerator\.prepare"):
        watch(Accelerator(cpu=True), net, torch.optim.SGD(net.parameters(), lr=0.1))


@pytest.mark.slow
def test_a_missing_library_says_which_extra_to_install() -> None:
    code = """
import sys
sys.modules["accelerate"] = None
try:
    import skipgrad.integrations.accelerate
except Exception as error:
    print(type(error).__name__, "skipgrad[accelerate]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtra", "True"]
