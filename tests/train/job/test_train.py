import errno
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from skipgrad.core import BadInput, DataError, OutputError, UnknownName
from skipgrad.core.training import TrainingRecipe, parse_settings
from skipgrad.store import read_run
from skipgrad.train import saving
from skipgrad.train.job import TrainOptions, named_recipe, recipe_names, speed, train
from skipgrad.train.saving import Checkpoints
from train.job.killing import assert_same

NETS = Path(__file__).with_name("nets.py")
SHORT = TrainingRecipe(steps=6, batch_size=32, measure_every=2)


@pytest.fixture(autouse=True)
def _told_each_step(monkeypatch):
    monkeypatch.setattr(speed, "EACH", 0.0)


def options(out, recipe=SHORT, net="dropped", **more):
    return TrainOptions(f"{NETS}:{net}", "digits", out, recipe=recipe, threads=1, **more)


def interrupted(out, recipe=SHORT, at=3, **more):
    """A training that somebody stops after some steps."""

    def stop(stage, done, total, note):
        if stage == "training" and done >= at:
            os.kill(os.getpid(), 15)

    return train(options(out, recipe, save_every=0, **more), stop)


def test_a_detector_trains_and_is_told_by_its_precision(tmp_path):
    recipe = TrainingRecipe(steps=2, batch_size=2, measure_every=1, holdout=0.004)
    result = train(TrainOptions("skipgrad:fasterrcnn", "detection", tmp_path, recipe=recipe, threads=1))
    assert (result.state, result.metric) == ("finished", "map")
    (told,) = result.evaluations
    assert {"map", "map_50"} <= set(told)
    assert 0 <= told["map"] <= told["map_50"] <= 1
    run = read_run(tmp_path / "run.sqlite")
    assert len(run.graph.skips) == 6  # four of the backbone, two of the pyramid
    assert {r.step for r in run.skip_rows[0]} == {0, 1}
    with pytest.raises(BadInput, match="label_smoothing"):
        train(
            TrainOptions(
                "skipgrad:fasterrcnn", "detection", tmp_path / "b", recipe=replace(recipe, label_smoothing=0.1)
            )
        )


def test_it_leaves_weights_losses_rows_evaluations_and_findings(tmp_path):
    result = train(options(tmp_path / "out", replace(SHORT, epochs=2)))
    assert result.state == "finished"
    assert result.step == result.steps == 2 * (1617 // 32)
    assert [e["epoch"] for e in result.evaluations] == [1, 2]
    assert result.metric == "accuracy"
    assert result.best == max(result.evaluations, key=lambda e: e["accuracy"])
    run = read_run(tmp_path / "out" / "run.sqlite")
    assert run.meta["state"] == "done"
    assert run.meta["evaluations"] == list(result.evaluations)
    assert run.graph is not None
    assert len(run.graph.skips) == 3
    assert {r.step for r in run.skip_rows[0]} == set(range(0, result.steps, 2))
    assert [p.step for p in run.losses] == list(range(result.steps))
    assert run.findings == result.findings != ()
    assert TrainingRecipe().with_values(dict(tomlib(run.meta["recipe"]))).epochs == 2
    weights = load_file(tmp_path / "out" / "last.safetensors")
    assert weights["head.weight"].shape == (10, 16)


def tomlib(text):
    import tomllib

    return tomllib.loads(text)


def test_the_loop_is_the_trials_loop(tmp_path):
    """The same losses, to the bit, as a trial of a race has with the same recipe on the same data."""
    from skipgrad.models import fit
    from skipgrad.train import train_trial

    recipe = replace(SHORT, holdout=0.0, lr=0.05, optimizer="sgd", clip=1.0)
    train(options(tmp_path / "out", recipe))
    got = [p.loss for p in read_run(tmp_path / "out" / "run.sqlite").losses]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = train_trial(fit(f"{NETS}:dropped", {}, "digits", batch_size=32), recipe)
    finally:
        torch.set_num_threads(threads)
    assert got == [p.loss for p in result.losses]


@pytest.mark.parametrize(
    "more",
    [
        {"accumulate": 2, "ema": 0.9, "schedule": "wsd", "warmup": 0.2},
        {"optimizer": "adam", "l1": 1e-4, "l2": 1e-4, "drop_schedule": "rising", "clip_factor": 0.05},
        {"precision": "float16", "label_smoothing": 0.1, "schedule": "multistep"},
        {"checkpointing": "0.8", "augment": "flip"},
    ],
    ids=lambda more: " ".join(more),
)
def test_interrupted_and_gone_on_with_is_bitwise_undisturbed(tmp_path, more):
    recipe = replace(SHORT, **more)
    stopped = interrupted(tmp_path / "torn", recipe)
    assert stopped.state == "interrupted"
    assert 0 < stopped.step < 6
    assert train(options(tmp_path / "torn", recipe)).state == "finished"
    assert train(options(tmp_path / "whole", recipe)).state == "finished"
    assert_same(tmp_path / "whole", tmp_path / "torn")


def test_micro_batches_make_the_same_step_as_the_batch(tmp_path):
    recipe = replace(SHORT, holdout=0.0, optimizer="sgd", lr=0.1)
    losses = []
    for many in (1, 4):
        train(options(tmp_path / str(many), replace(recipe, accumulate=many), net="plain"))
        losses.append([p.loss for p in read_run(tmp_path / str(many) / "run.sqlite").losses])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_one_that_is_over_is_not_trained_again(tmp_path):
    first = train(options(tmp_path / "out"))
    before = (tmp_path / "out" / "last.safetensors").stat().st_mtime_ns
    again = train(options(tmp_path / "out"))
    assert again.state == "finished"
    assert again.evaluations == first.evaluations
    assert (tmp_path / "out" / "last.safetensors").stat().st_mtime_ns == before


def test_patience_stops_it_early_with_the_best_weights_kept(tmp_path):
    recipe = replace(SHORT, epochs=30, lr=1e-12, optimizer="sgd", patience=2, batch_size=256, measure_every=0)
    result = train(options(tmp_path / "out", recipe, net="plain"))
    assert result.state == "stopped early"
    assert len(result.evaluations) == 3
    assert result.step < result.steps
    assert (tmp_path / "out" / "best.safetensors").exists()
    assert train(options(tmp_path / "out", recipe, net="plain")).state == "stopped early"


def test_a_loss_that_is_no_number_fails_with_the_finding_and_the_last_good_checkpoint(tmp_path):
    recipe = replace(SHORT, steps=40, lr=1e20, optimizer="sgd", measure_every=1)
    result = train(options(tmp_path / "out", recipe, save_every=0, net="plain"))
    assert result.state == "failed"
    assert "step" in result.reason
    assert "kept" in result.reason
    finding = next(f for f in result.findings if f.code == "SG010")
    assert finding.state == "found"
    saved = Checkpoints(tmp_path / "out").read()
    assert saved.about["step"] < result.step
    assert math.isfinite(saved.about["loss"])
    run = read_run(tmp_path / "out" / "run.sqlite")
    assert run.meta["ended"] == "failed"
    assert run.trials[0].state == "diverged"


# -- refusals ------------------------------------------------------------------------------------


def checkpoint(folder):
    interrupted(folder)
    return folder / "checkpoint.safetensors"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "cut short or damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:50]), "cut short or damaged"),
        (lambda p: p.write_bytes(b""), "cut short or damaged"),
        (lambda p: p.write_bytes(b"\x80\x04K\x01."), "cut short or damaged"),
        (lambda p: save_file({"w": torch.ones(2)}, p), "no checkpoint of skipgrad"),
        (lambda p: p.write_bytes(p.read_bytes()[:-3] + b"\x01\x02\x03"), "checksum"),
    ],
    ids=["truncated", "head only", "empty", "pickle", "foreign", "damaged"],
)
def test_a_spoilt_checkpoint_is_refused_and_the_one_before_is_intact(tmp_path, spoil, told):
    path = checkpoint(tmp_path / "out")
    previous = (tmp_path / "out" / "checkpoint.previous.safetensors").read_bytes()
    spoil(path)
    with pytest.raises(BadInput, match=told) as caught:
        train(options(tmp_path / "out"))
    assert "checkpoint.previous.safetensors" in caught.value.todo
    assert (tmp_path / "out" / "checkpoint.previous.safetensors").read_bytes() == previous
    path.unlink()
    assert train(options(tmp_path / "out")).state == "finished"
    train(options(tmp_path / "whole"))
    assert_same(tmp_path / "whole", tmp_path / "out")


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(saving.checkpoint, "FORMAT", 2)
    checkpoint(tmp_path / "out")
    monkeypatch.setattr(saving.checkpoint, "FORMAT", 1)
    with pytest.raises(BadInput, match="format 2; this version reads up to 1"):
        train(options(tmp_path / "out"))


def test_a_changed_recipe_model_or_data_is_refused_by_name(tmp_path):
    checkpoint(tmp_path / "out")
    with pytest.raises(BadInput, match=r"lr: .* became 0.5"):
        train(options(tmp_path / "out", replace(SHORT, lr=0.5)))
    with pytest.raises(BadInput, match="model"):
        train(options(tmp_path / "out", net="wider"))
    with pytest.raises(BadInput, match="data"):
        train(replace(options(tmp_path / "out"), data="shapes", model="skipgrad:unet"))
    assert train(options(tmp_path / "out", replace(SHORT, workers=1))).state == "finished"


def test_a_model_that_is_built_otherwise_under_the_same_name_is_refused(tmp_path):
    nets = tmp_path / "mine.py"
    nets.write_text(NETS.read_text())
    mine = replace(options(tmp_path / "out"), model=f"{nets}:dropped")

    def stop(stage, done, total, note):
        if stage == "training":
            os.kill(os.getpid(), 15)

    train(mine, stop)
    nets.write_text(NETS.read_text().replace("return Net()", "return Net(20)"))
    import sys

    for name in [n for n, m in sys.modules.items() if getattr(m, "__file__", None) == str(nets)]:
        del sys.modules[name]
    with pytest.raises(BadInput, match="another model"):
        train(mine)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk_is_told_and_what_was_saved_is_intact(tmp_path, monkeypatch, at):
    from skipgrad.train.saving import files

    checkpoint(tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.safetensors")}
    calls, real = [], files.save_file

    def full(tensors, path, metadata):
        calls.append(path)
        if len(calls) == at:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, metadata)

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        train(options(tmp_path / "out", save_every=0))
    assert not list((tmp_path / "out").glob(".*.new"))
    if at == 1:
        assert {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.safetensors")} == before
    monkeypatch.setattr(files, "save_file", real)
    assert train(options(tmp_path / "out")).state == "finished"
    train(options(tmp_path / "whole"))
    assert_same(tmp_path / "whole", tmp_path / "out")


def test_the_folder_of_another_run_is_refused(tmp_path):
    from skipgrad.store import RunWriter

    with RunWriter.create(tmp_path / "run.sqlite", {"model": "a", "data": "b", "state": "done"}):
        pass
    with pytest.raises(BadInput, match="run of something else"):
        train(options(tmp_path))


def test_going_on_where_there_is_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no checkpoint to go on with"):
        train(options(tmp_path / "out", resume=True))


def test_two_processes_on_one_folder(tmp_path):
    (tmp_path / "out").mkdir()
    with saving.locked(tmp_path / "out"), pytest.raises(BadInput, match=f"number {os.getpid()}"):
        train(options(tmp_path / "out"))
    assert train(options(tmp_path / "out")).state == "finished"


def test_less_data_than_a_batch_and_what_does_not_divide(tmp_path):
    with pytest.raises((BadInput, DataError), match=r"1617|1797|batch"):
        train(options(tmp_path / "a", replace(SHORT, batch_size=1700)))
    with pytest.raises(BadInput, match="does not divide"):
        replace(SHORT, accumulate=5)


def test_labels_out_of_range_are_told(tmp_path):
    import numpy as np

    np.savez(tmp_path / "bad.npz", x=np.zeros((64, 1, 8, 8), np.float32), y=np.full(64, -3))
    with pytest.raises(DataError, match="label -3"):
        train(replace(options(tmp_path / "out"), data=f"npz:{tmp_path / 'bad.npz'}"))


# -- recipes -------------------------------------------------------------------------------------


def test_a_key_that_no_recipe_has_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(BadInput, match="label_smoothing"):
        TrainingRecipe().with_values({"label_smothing": 0.1})
    path = tmp_path / "mine.toml"
    path.write_text("epoch = 3\n")
    with pytest.raises(BadInput, match="epochs"):
        named_recipe(str(path))
    path.write_text("epochs = = 3\n")
    with pytest.raises(BadInput, match="TOML"):
        named_recipe(str(path))
    with pytest.raises(UnknownName, match="digits-small"):
        named_recipe("digit-small")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_whole_says_its_source_and_goes_through_toml(name, tmp_path):
    recipe = named_recipe(name)
    path = tmp_path / "again.toml"
    path.write_text(recipe.to_toml())
    assert named_recipe(str(path)) == recipe
    from importlib import resources

    text = (resources.files("skipgrad.train.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "skipgrad train " in text
    assert "Source: " in text


def test_settings_are_read_as_values():
    told = parse_settings(["lr=0.1", "schedule=cosine", "nesterov=true", "clip=none", "betas=(0.9, 0.95)"])
    assert told == {"lr": 0.1, "schedule": "cosine", "nesterov": True, "clip": None, "betas": (0.9, 0.95)}
    for wrong in (["lr"], ["lr=1", "lr=2"]):
        with pytest.raises(BadInput, match="--set"):
            parse_settings(wrong)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("accumulate", 0),
        ("ema", 1.0),
        ("label_smoothing", -0.1),
        ("l1", -1),
        ("momentum", 1.0),
        ("betas", (0.9,)),
        ("milestones", (0.9, 0.5)),
        ("schedule", "steps"),
        ("drop_schedule", "up"),
        ("augment", "mixup"),
        ("checkpointing", "much"),
        ("holdout", 1.0),
        ("workers", -1),
        ("patience", 0),
        ("clip_factor", 0.0),
        ("nesterov", "yes"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(BadInput) as caught:
        TrainingRecipe(**{field: value})
    assert field in (caught.value.where or "") or "memory" in caught.value.doing


def test_json_of_a_result_is_strict(tmp_path):
    result = train(options(tmp_path / "out"))
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["state"] == "finished"


def test_a_way_to_spread_that_is_none_and_one_without_torchrun(tmp_path):
    with pytest.raises(BadInput, match="ddp"):
        train(options(tmp_path / "out", strategy="dp"))
    with pytest.raises(BadInput, match="torchrun"):
        train(options(tmp_path / "out", strategy="fsdp"))


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "two"), ("LOCAL_RANK", "")])
def test_an_environment_that_does_not_hold_together_is_told(tmp_path, monkeypatch, name, value):
    for key, fine in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(key, fine)
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="torchrun --nproc-per-node"):
        train(options(tmp_path / "out"))


def test_several_processes_without_fabric_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    with pytest.raises(BadInput, match=r"skipgrad\[train\]"):
        train(options(tmp_path / "out"))


class Damped:
    """A treatment that remembers: scales all gradients by the running mean of something it draws."""

    def __init__(self, model):
        self.model, self.mean, self.undone = model, 1.0, False

    def attach(self, optimizer):
        optimizer.register_step_pre_hook(self.damp)

    def damp(self, *_):
        self.mean = 0.9 * self.mean + 0.1 * float(torch.rand(()))
        for p in self.model.parameters():
            p.grad.mul_(self.mean)

    def undo(self):
        self.undone = True

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


def test_what_a_treatment_remembers_is_saved_too(tmp_path):
    made = []

    def prepare(model):
        made.append(Damped(model))
        return made[-1]

    def stop(stage, done, total, note):
        if stage == "training":
            os.kill(os.getpid(), 15)

    torn, whole = (options(tmp_path / name, treatment="damped") for name in ("torn", "whole"))
    assert train(torn, stop, prepare=prepare).state == "interrupted"
    assert train(torn, prepare=prepare).state == "finished"
    assert train(whole, prepare=prepare).state == "finished"
    assert made[1].mean == made[2].mean != made[0].mean
    assert all(m.undone for m in made)
    assert_same(tmp_path / "whole", tmp_path / "torn")
    train(options(tmp_path / "third", treatment="damped"), stop)
    with pytest.raises(BadInput, match="treatment"):
        train(options(tmp_path / "third"))
