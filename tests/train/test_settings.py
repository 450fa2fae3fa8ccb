import math

import pytest
import torch

from skipgrad.core import BadInput
from skipgrad.train import Settings


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
        ("device", "tpu9"),
        ("device", "meta"),
    ],
)
def test_a_bad_setting_is_refused_by_name_with_what_was_received(field, value):
    with pytest.raises(BadInput) as caught:
        Settings(**{field: value})
    assert caught.value.where == field
    assert str(value) in caught.value.received
    assert caught.value.todo


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BadInput, match="this machine has: cpu"):
        Settings(device="cuda")


def test_a_misspelt_optimizer_gets_the_nearest_name():
    with pytest.raises(BadInput, match="did you mean adamw"):
        Settings(optimizer="adamww")  # pyright: ignore[reportArgumentType]


def test_the_trial_carries_rate_seed_and_steps():
    trial = Settings(steps=7, lr=0.3, seed=5).trial(2, "rezero")
    assert (trial.id, trial.remedy, trial.rate, trial.seed, trial.steps) == (2, "rezero", 0.3, 5, 7)
