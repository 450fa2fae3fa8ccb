"""The Trainer of transformers with and without the callback, on a small GPT-2 and generated ids."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from skipgrad.store import read_run
from skipgrad.writers import CsvWriter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what these libraries warn about on import is their own affair
    from accelerate.state import AcceleratorState, GradientState
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    from skipgrad.integrations.transformers_ import SkipgradCallback

# Advice of transformers, accelerate and torch about pinned memory and the like, none of it about skipgrad.
pytestmark = pytest.mark.filterwarnings("ignore:.*:Warning")

SKIPS = [f"transformer.h.{block}{part}" for block in range(2) for part in ("", "#2")]


@pytest.fixture(autouse=True)
def _a_state_of_its_own() -> Iterator[None]:
    """Accelerate, below the Trainer, keeps precision and device for the whole process."""
    _reset()
    yield
    _reset()


def _reset() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=32, n_positions=16))


def data() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(0, 32, (16, 8), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in ids]


def trainer(model: GPT2LMHeadModel, out: Path, *callbacks: TrainerCallback, **kwargs: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": 0,
    }
    arguments = TrainingArguments(output_dir=str(out), **{**settings, **kwargs})
    return Trainer(model, arguments, train_dataset=data(), callbacks=list(callbacks))  # pyright: ignore


class Fails(TrainerCallback):
    """A fault of the user's."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise RuntimeError("a fault of the user's")


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_watched_training_gives_the_same_bits_and_leaves_nothing_behind(
    tmp_path: Path, same_bits: Any, traces: Any, bf16: bool, accumulate: int
) -> None:
    how = {"bf16": bf16, "gradient_accumulation_steps": accumulate}
    plain, watched = gpt2(), gpt2()
    start = gpt2()
    training = trainer(plain, tmp_path / "plain", **how)
    training.train()
    left = traces(plain, training.optimizer.optimizer)
    _reset()
    watching = SkipgradCallback()
    training = trainer(watched, tmp_path / "watched", watching, **how)
    training.train()
    same_bits(plain, watched)
    assert not torch.equal(start.lm_head.weight, watched.lm_head.weight)
    found = traces(watched, training.optimizer.optimizer)
    # Accelerate itself leaves its forward on the model; it is another object for another model, so by its kind.
    for each in (left, found):
        each["forwards"] = {n: type(f).__name__ for n, f in each["forwards"].items()}
    assert found == left
    rows = watching.ledger.rows()
    assert {r.skip for r in rows} == set(SKIPS)
    assert [(r.step, r.micro) for r in rows if r.skip == SKIPS[0]] == [
        (t, m) for t in range(3) for m in range(accumulate)
    ]
    assert all(r.finite and r.skip_norm > 0 and r.branch_norm > 0 for r in rows)
    assert all(r.update_norm for r in watching.ledger.layers() if r.step)  # the first step of the warm-up has rate 0


def test_the_run_file_and_writers_get_every_step(tmp_path: Path) -> None:
    writer = CsvWriter(tmp_path / "tables")
    watching = SkipgradCallback(run=tmp_path / "fit.sqlite", writers=[writer])
    trainer(gpt2(), tmp_path / "out", watching).train()
    run = read_run(tmp_path / "fit.sqlite")
    assert (run.meta["state"], run.meta["model"], run.meta["steps"]) == ("done", "GPT2LMHeadModel", 3)
    assert run.graph is not None
    assert {s.name for s in run.graph} == set(SKIPS)
    assert run.skip_rows[0] == tuple(watching.ledger.rows())
    assert run.layer_rows[0] == tuple(watching.ledger.layers())
    assert [p.step for p in run.losses] == [0, 1, 2]
    assert all(p.loss > 0 for p in run.losses)
    assert (run.trials[0].state, run.trials[0].steps) == ("done", 3)
    assert len((tmp_path / "tables" / "losses.csv").read_text().splitlines()) == 4


def test_as_a_context_manager_it_leaves_nothing_behind_after_an_exception(tmp_path: Path, traces: Any) -> None:
    model, clean = gpt2(), gpt2()
    watching = SkipgradCallback(run=tmp_path / "fit.sqlite")
    training = trainer(model, tmp_path / "out", watching, Fails())
    with pytest.raises(RuntimeError, match="the user's"), watching:
        training.train()
    optimizer = training.optimizer.optimizer
    fresh = torch.optim.AdamW(clean.parameters())
    # The scheduler wraps the optimizer's step; that adds no hook.
    assert traces(model, optimizer)["step hooks"] == traces(clean, fresh)["step hooks"]
    assert traces(model, optimizer)["hooks"] == traces(clean, fresh)["hooks"]
    assert traces(model, optimizer)["forwards"] == traces(clean, fresh)["forwards"]
    run = read_run(tmp_path / "fit.sqlite")
    assert (run.meta["state"], run.trials[0].state) == ("failed", "interrupted")
    assert run.meta["error"].startswith("RuntimeError: ")
    assert {r.step for r in run.skip_rows[0]} == {0, 1}


def test_a_second_training_closes_what_a_failed_one_left_open(tmp_path: Path) -> None:
    watching = SkipgradCallback()
    model = gpt2()
    with pytest.raises(RuntimeError, match="the user's"):
        trainer(model, tmp_path / "out", watching, Fails()).train()
    first = watching.ledger
    assert "_compiled_call_impl" in model.__dict__
    _reset()
    trainer(model, tmp_path / "again", watching).train()
    assert "_compiled_call_impl" not in model.__dict__
    assert {r.step for r in first.rows()} == {0, 1}
    assert {r.step for r in watching.ledger.rows()} == {0, 1, 2}


@pytest.mark.slow
def test_a_missing_library_says_which_extra_to_install() -> None:
    code = """
import sys
sys.modules["transformers"] = None
try:
    import skipgrad.integrations.transformers_
except Exception as error:
    print(type(error).__name__, "skipgrad[models,accelerate]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtra", "True"]
