import signal

import pytest

from skipgrad.store import read_run
from skipgrad.train.saving.checkpoint import Checkpoints
from train.job.killing import assert_same, command, finish, kill_after_checkpoint, kill_at, moments

FULL = ("--epochs", "2", "--batch-size", "48", "--accumulate", "3", "--ema", "0.9", "--augment", "flip")


def step_of(out):
    saved = Checkpoints(out).read()  # a kill between two names leaves the previous one alone
    assert saved is not None
    return saved.about["step"]


@pytest.mark.parametrize(
    "more",
    [("--precision", "float32", "--optimizer", "adamw"), ("--precision", "bfloat16", "--workers", "1")],
    ids=["float32", "bfloat16-workers"],
)
def test_a_training_killed_at_any_moment_ends_with_the_bits_of_one_that_was_not(tmp_path, more):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert finish(command(whole, *FULL, *more)).returncode == 0
    steps = []
    for wait in moments(2, seed=len(more), longest=0.4):
        if kill_after_checkpoint(command(torn, *FULL, *more), torn, wait) == 0:
            break
        steps.append(step_of(torn))
    assert steps, "it was never killed in the middle"
    assert finish(command(torn, *FULL, *more)).returncode == 0
    assert_same(whole, torn)


def test_one_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    words = ("--steps", "4", "--batch-size", "32")
    assert finish(command(whole, *words)).returncode == 0
    assert kill_at(command(torn, *words), 1.0) == -signal.SIGKILL
    assert finish(command(torn, *words)).returncode == 0
    assert_same(whole, torn)


def test_one_killed_between_the_two_names_of_a_checkpoint_goes_on_from_the_one_that_is_there(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    words = ("--epochs", "2", "--batch-size", "48")
    assert finish(command(whole, *words)).returncode == 0
    assert kill_after_checkpoint(command(torn, *words), torn) == -signal.SIGKILL
    if (torn / "checkpoint.safetensors").exists():
        (torn / "checkpoint.safetensors").replace(torn / "checkpoint.previous.safetensors")
    assert step_of(torn) < read_run(whole / "run.sqlite").meta["steps"]
    assert finish(command(torn, *words)).returncode == 0
    assert_same(whole, torn)


def test_sigterm_saves_within_a_step_and_says_that_it_can_go_on(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    words = ("--epochs", "4", "--batch-size", "32", "--ema", "0.9")
    assert kill_after_checkpoint(command(torn, *words), torn, 0.1, signal.SIGTERM) == 75
    run = read_run(torn / "run.sqlite")
    assert run.meta["state"] == "interrupted"
    assert step_of(torn) == run.meta["steps"] == len({p.step for p in run.losses})
    assert finish(command(torn, *words)).returncode == 0
    assert finish(command(whole, *words)).returncode == 0
    assert_same(whole, torn)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_thirty_kills(tmp_path, precision):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    more = ("--epochs", "12", "--batch-size", "48", "--accumulate", "3", "--ema", "0.9", "--augment", "flip")
    more += ("--precision", precision, "--optimizer", "adamw", "--schedule", "cosine")
    assert finish(command(whole, *more)).returncode == 0
    kills = 0
    for wait in moments(30, seed=7, longest=0.25):
        kills += kill_after_checkpoint(command(torn, *more), torn, wait) == -signal.SIGKILL
    assert kills > 20
    assert finish(command(torn, *more)).returncode == 0
    assert_same(whole, torn)
