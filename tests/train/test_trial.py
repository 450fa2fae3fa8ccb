import contextlib
import math
import random
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from skipgrad.core import BadInput, DataError, ModelError, Recipe
from skipgrad.train import train_trial
from train.toy import Net, Scaled, Toy

SHORT = Recipe(steps=12, lr=0.05)


def losses(result):
    return [p.loss for p in result.losses]


def test_a_trial_learns_and_records_every_step():
    result = train_trial(Toy(), Recipe(steps=60, lr=0.05))
    assert result.trial.state == "done"
    assert [p.step for p in result.losses] == list(range(60))
    assert sum(losses(result)[-10:]) < 0.7 * sum(losses(result)[:10])
    seconds = [p.seconds for p in result.losses]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_same_settings_give_the_same_bits_whatever_the_global_generators_hold(optimizer):
    toy = Toy(lambda: Net(dropout=0.3))
    settings = replace(SHORT, optimizer=optimizer)
    first = losses(train_trial(toy, settings))
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    assert losses(train_trial(toy, settings)) == first
    assert losses(train_trial(toy, replace(settings, seed=1))) != first


def test_the_callers_random_generators_are_left_alone():
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    train_trial(Toy(lambda: Net(dropout=0.3)), SHORT)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()


def test_prepare_comes_before_the_optimizer_and_its_treatment_is_attached():
    treatments = []

    def prepare(model):
        model.extra = nn.Parameter(torch.zeros(1))
        treatments.append(Scaled(model, 0.5))
        return treatments[-1]

    train_trial(Toy(), SHORT, prepare=prepare)
    (optimizer,) = treatments[0].attached
    assert any(p is treatments[0].model.extra for g in optimizer.param_groups for p in g["params"])


@pytest.mark.parametrize("ends_with", [None, KeyboardInterrupt, RuntimeError])
def test_the_treatment_is_undone_however_the_trial_ends(ends_with):
    undone = []

    class Undone(Scaled):
        def undo(self):
            undone.append(True)

    def on_step(point):
        if ends_with is not None:
            raise ends_with

    with pytest.raises(ends_with) if ends_with else contextlib.nullcontext():
        train_trial(Toy(), SHORT, prepare=lambda model: Undone(model, 1.0), on_step=on_step)
    assert undone == [True]


def test_a_prepare_that_draws_random_numbers_changes_no_dropout_mask():
    toy = Toy(lambda: Net(dropout=0.5))

    def prepare(model):
        torch.rand(5)

    assert losses(train_trial(toy, SHORT, prepare=prepare)) == losses(train_trial(toy, SHORT))


def test_observe_spans_the_steps_and_ends_on_an_exception():
    seen = []

    @contextlib.contextmanager
    def observe(model, optimizer):
        seen.append((isinstance(model, Net), isinstance(optimizer, torch.optim.SGD)))
        try:
            yield
        finally:
            seen.append("closed")

    def on_step(point):
        assert seen == [(True, True)]
        if point.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_trial(Toy(), SHORT, observe=observe, on_step=on_step)
    assert seen[1:] == ["closed"]


def test_what_was_recorded_before_an_interrupt_has_been_handed_over():
    points = []

    def on_step(point):
        points.append(point)
        if point.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_trial(Toy(), SHORT, on_step=on_step)
    assert [p.loss for p in points] == losses(train_trial(Toy(), SHORT))[:5]


def test_a_loss_that_is_not_finite_ends_the_trial_after_its_backward():
    grads, held = [], []

    class Explodes(Net):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x) * (math.inf if self.calls == 4 else 1)

    def prepare(model):
        model.head.weight.register_hook(lambda g: grads.append(g.isfinite().all().item()))
        held.append(model)

    result = train_trial(Toy(Explodes), SHORT, prepare=prepare)
    assert result.trial.state == "diverged"
    assert len(result.losses) == 4
    assert not math.isfinite(result.losses[-1].loss)
    assert grads == [True, True, True, False]
    assert all(p.isfinite().all() for p in held[0].parameters()), "no step was taken with it"


def test_stop_ends_the_trial_as_interrupted():
    result = train_trial(Toy(), SHORT, stop=lambda point: point.step == 3)
    assert (result.trial.state, len(result.losses)) == ("interrupted", 4)


def test_prepare_is_on_the_clock_and_building_and_callbacks_are_not():
    def slow_build():
        time.sleep(0.3)
        return Net()

    def prepare(model):
        time.sleep(0.1)

    result = train_trial(Toy(slow_build), replace(SHORT, steps=2), prepare=prepare, on_step=lambda p: time.sleep(0.3))
    assert result.losses[0].seconds >= 0.1
    assert result.losses[-1].seconds < 0.3


def test_clipping_bounds_the_step():
    def moved(clip):
        held = []
        train_trial(
            Toy(), Recipe(steps=1, lr=1.0, clip=clip), prepare=lambda m: held.append((m, m.head.weight.clone()))
        )
        model, before = held[0]
        return (model.head.weight - before).norm().item()

    assert moved(1e-3) < 1.1e-3 < moved(None)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains_close_to_float32(precision):
    settings = Recipe(steps=40, lr=0.02)
    full, low = (losses(train_trial(Toy(), replace(settings, precision=p))) for p in ("float32", precision))
    assert full != low
    assert full == pytest.approx(low, abs=0.1)


def test_compiled_training_gives_nearly_the_same_losses_and_compiling_is_off_the_clock(monkeypatch):
    # The quickest backend: what it makes of the graph is torch's affair, when it is called is ours.
    compiled_in = []

    def backend(graph, inputs):
        time.sleep(0.5)
        compiled_in.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    settings = replace(SHORT, steps=5)
    plain = losses(train_trial(Toy(), settings))  # first, as a process's first optimizer imports for seconds
    compiled = train_trial(Toy(), replace(settings, compile=True))
    assert compiled_in
    assert losses(compiled) == pytest.approx(plain, rel=1e-4)
    assert compiled.losses[-1].seconds < 0.5


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Linear(7, 3))

    def forward(self, x):
        return self.body(x)


def test_a_forward_that_raises_names_the_module_the_inputs_and_the_message():
    with pytest.raises(ModelError) as caught:
        train_trial(Toy(Broken), SHORT)
    assert caught.value.where == "module 'body.1' (Linear)"
    assert "shapes cannot be multiplied" in caught.value.received
    assert "(16, 4) float32" in caught.value.received
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_running_out_of_memory_says_so():
    class Greedy(Net):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(ModelError, match=r"out of memory[\s\S]*smaller batch"):
        train_trial(Toy(Greedy), SHORT)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda out, batch: out, "return one number"),
        (lambda out, batch: out.sum().detach(), "no trainable weight"),
        (lambda out, batch: 1.0, "return one number"),
    ],
)
def test_a_loss_that_cannot_be_trained_on_is_refused(loss, message):
    class Odd(Toy):
        def loss(self, output, batch):
            return loss(output, batch)

    with pytest.raises(ModelError, match=message):
        train_trial(Odd(), SHORT)


def test_data_that_end_too_soon_are_reported():
    class Finite(Toy):
        def batches(self, seed):
            endless = super().batches(seed)
            return (next(endless) for _ in range(3))

    with pytest.raises(DataError, match="step 3"):
        train_trial(Finite(), SHORT)


def test_a_frozen_model_is_refused():
    with pytest.raises(BadInput, match="nothing to train"):
        train_trial(Toy(lambda: Net().requires_grad_(False)), SHORT)


def test_a_trial_that_contradicts_its_settings_is_refused():
    with pytest.raises(BadInput, match="trial"):
        train_trial(Toy(), SHORT, trial=replace(SHORT, lr=1.0).trial())
