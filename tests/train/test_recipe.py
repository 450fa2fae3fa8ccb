import math

import pytest
import torch

from skipgrad.core import BadInput, Recipe
from skipgrad.train import device_of, train_trial
from train.toy import Toy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("steps", True),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", -0.1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", "fast"),
        ("clip", 0.0),
        ("clip", math.nan),
        ("warmup", 1.5),
        ("warmup", math.nan),
        ("seed", -1),
        ("seed", 1.0),
        ("optimizer", "sgdd"),
        ("precision", "float8"),
        ("schedule", "step"),
    ],
)
def test_a_bad_setting_is_refused_by_name_with_what_was_received(field, value):
    with pytest.raises(BadInput) as caught:
        Recipe(**{field: value})
    assert caught.value.where == field
    assert str(value) in caught.value.received
    assert caught.value.todo


@pytest.mark.parametrize("name", ["tpu9", "meta", 3.5])
def test_a_device_that_cannot_be_is_refused_by_name(name):
    with pytest.raises(BadInput) as caught:
        device_of(name)
    assert caught.value.where == "device"
    assert str(name) in caught.value.received


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BadInput, match="this machine has: cpu"):
        device_of("cuda")
    with pytest.raises(BadInput, match="this machine has: cpu"):
        train_trial(Toy(), Recipe(steps=1, device="cuda"))


@pytest.mark.parametrize(
    ("given", "task", "settled"),
    [
        ({}, "classification", ("sgd", 0.05)),
        ({}, "language model", ("adamw", 1e-3)),
        ({"optimizer": "adam"}, "classification", ("adam", 1e-3)),
        ({"lr": 0.3}, "language model", ("adamw", 0.3)),
        ({"optimizer": "sgd", "lr": 0.3}, "language model", ("sgd", 0.3)),
    ],
)
def test_what_is_left_open_is_filled_in_by_the_task(given, task, settled):
    recipe = Recipe(**given).for_task(task)
    assert (recipe.optimizer, recipe.rate) == settled
    assert recipe.for_task("anything else") == recipe


def test_a_run_files_meta_holds_every_field():
    assert Recipe(**Recipe(steps=3, clip=1.0).meta()) == Recipe(steps=3, clip=1.0)


def test_a_misspelt_optimizer_gets_the_nearest_name():
    with pytest.raises(BadInput, match="did you mean adamw"):
        Recipe(optimizer="adamww")


def test_the_trial_carries_rate_seed_and_steps():
    trial = Recipe(steps=7, lr=0.3, seed=5).trial(2, "rezero")
    assert (trial.id, trial.remedy, trial.rate, trial.seed, trial.steps) == (2, "rezero", 0.3, 5, 7)
