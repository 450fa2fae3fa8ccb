import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from skipgrad.core import BadInput, OutputError
from skipgrad.store import read_run
from skipgrad.writers import CsvWriter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what lightning warns about on import is its own affair
    from lightning.pytorch import Callback, LightningModule, Trainer

    from skipgrad.integrations.lightning import SkipgradCallback

# Lightning's own advice and deprecations, none of it about skipgrad.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning", "ignore:.*:Warning")


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(x)))


class Tiny(LightningModule):
    def __init__(self, fails_at=None, example=True):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), Block(8), Block(8), nn.Linear(8, 1))
        self.fails_at = fails_at
        if example:
            self.example_input_array = torch.zeros(2, 4)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        if index == self.fails_at:
            raise RuntimeError("a fault of the user's")
        return self(batch).square().mean()

    def validation_step(self, batch, index):
        self(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(*callbacks, **kwargs):
    return Trainer(
        max_steps=kwargs.pop("max_steps", 6),
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )


def loader():
    generator = torch.Generator().manual_seed(0)
    return torch.utils.data.DataLoader(torch.randn(32, 4, generator=generator), batch_size=4)


def test_the_ledger_measures_every_step_of_a_fit():
    watching = SkipgradCallback()
    trainer(watching).fit(Tiny(), loader())
    rows = watching.ledger.rows()
    assert {r.skip for r in rows} == {"net.1", "net.2"}
    assert sorted({r.step for r in rows}) == list(range(6))
    assert all(r.skip_norm > 0 and r.branch_norm > 0 for r in rows)
    layers = watching.ledger.layers()
    assert sorted({r.step for r in layers}) == list(range(6))
    assert all(r.update_norm == pytest.approx(0.01 * r.weight_grad_norm, rel=1e-3) for r in layers)


def test_gradients_of_accumulated_batches_share_a_step():
    watching = SkipgradCallback()
    trainer(watching, accumulate_grad_batches=2, max_steps=3).fit(Tiny(), loader())
    assert [(r.step, r.micro) for r in watching.ledger.rows() if r.skip == "net.1"] == [
        (step, micro) for step in range(3) for micro in range(2)
    ]


def test_under_accumulation_the_last_loss_of_a_step_counts(tmp_path):
    class Counts(Tiny):
        def training_step(self, batch, index):
            return super().training_step(batch, index) * 0 + index

    trainer(SkipgradCallback(run=tmp_path / "fit.sqlite"), accumulate_grad_batches=2, max_steps=3).fit(
        Counts(), loader()
    )
    # As the training step returned it: Lightning divides it by the number of batches.
    assert [(p.step, p.loss) for p in read_run(tmp_path / "fit.sqlite").losses] == [(0, 1.0), (1, 3.0), (2, 5.0)]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_watched_fit_gives_the_same_bits_and_leaves_nothing_behind(precision, accumulate):
    plain, watched = Tiny(), Tiny()
    how = {"precision": precision, "accumulate_grad_batches": accumulate, "max_steps": 3}
    trainer(**how).fit(plain, loader())
    watching = SkipgradCallback()
    trainer(watching, **how).fit(watched, loader())
    assert not torch.equal(Tiny().net[0].weight, watched.net[0].weight)
    assert len(watching.ledger.rows()) == 2 * 3 * accumulate
    assert all(r.finite and r.skip_norm > 0 for r in watching.ledger.rows())
    for (name, a), (other, b) in zip(plain.state_dict().items(), watched.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b), name
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in watched.modules())
    assert [sorted(m.__dict__) for m in watched.net.modules()] == [sorted(m.__dict__) for m in plain.net.modules()]
    assert "forward" not in watched.__dict__


def test_validation_in_between_is_not_measured():
    watching = SkipgradCallback()
    trainer(watching, max_epochs=2, max_steps=-1).fit(Tiny(), loader(), loader())
    assert sorted({r.step for r in watching.ledger.rows()}) == list(range(16))


def test_a_submodule_and_an_example_of_its_own():
    watching = SkipgradCallback("net", example=torch.zeros(1, 4), every=2)
    trainer(watching).fit(Tiny(example=False), loader())
    assert {r.skip for r in watching.ledger.rows()} == {"1", "2"}
    assert sorted({r.step for r in watching.ledger.rows()}) == [0, 2, 4]


def test_without_an_example_the_first_batch_will_do():
    watching = SkipgradCallback()
    trainer(watching).fit(Tiny(example=False), loader())
    assert {r.skip for r in watching.ledger.rows()} == {"net.1", "net.2"}
    assert len(watching.graph) == 2


def test_the_run_file_holds_graph_losses_and_rows(tmp_path):
    watching = SkipgradCallback(run=tmp_path / "fit.sqlite")
    trainer(watching).fit(Tiny(), loader())
    run = read_run(tmp_path / "fit.sqlite")
    assert run.meta["state"] == "done"
    assert [s.name for s in run.graph] == ["net.1", "net.2"]
    assert [p.step for p in run.losses] == list(range(6))
    assert len(run.skip_rows[0]) == 12
    assert (run.trials[0].state, run.trials[0].steps, run.trials[0].measured) == ("done", 6, True)


def test_the_run_file_and_writers_are_written_while_it_trains(tmp_path):
    class Looks(Callback):
        seen = None

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 3:
                run = read_run(tmp_path / "fit.sqlite")
                rows = (tmp_path / "tables" / "skips.csv").read_text().splitlines()
                self.seen = (run.meta["state"], run.trials[0].steps, len(run.skip_rows[0]), len(run.losses), len(rows))

    looks = Looks()
    watching = SkipgradCallback(run=tmp_path / "fit.sqlite", writers=[CsvWriter(tmp_path / "tables")])
    trainer(watching, looks).fit(Tiny(), loader())
    assert looks.seen == ("running", 6, 8, 4, 9)
    assert len((tmp_path / "tables" / "losses.csv").read_text().splitlines()) == 7


def test_a_run_file_that_is_there_is_told_before_the_first_step(tmp_path):
    (tmp_path / "fit.sqlite").write_text("mine")
    module = Tiny()
    before = module.net[0].weight.clone()
    with pytest.raises(OutputError, match="nothing was overwritten"):
        trainer(SkipgradCallback(run=tmp_path / "fit.sqlite")).fit(module, loader())
    assert torch.equal(before, module.net[0].weight)
    assert "_compiled_call_impl" not in module.__dict__
    assert (tmp_path / "fit.sqlite").read_text() == "mine"


def test_a_fit_that_fails_still_closes_the_watch_and_keeps_its_rows(tmp_path):
    watching = SkipgradCallback(run=tmp_path / "fit.sqlite")
    module = Tiny(fails_at=3)
    with pytest.raises(RuntimeError, match="the user's"):
        trainer(watching).fit(module, loader())
    run = read_run(tmp_path / "fit.sqlite")
    assert (run.meta["state"], run.trials[0].state) == ("failed", "interrupted")
    assert run.meta["error"].startswith("RuntimeError: ")
    assert {r.step for r in run.skip_rows[0]} == {0, 1, 2}
    before = len(watching.ledger.rows())
    module(torch.zeros(2, 4)).sum().backward()
    assert len(watching.ledger.rows()) == before


def test_a_submodule_that_is_not_there_is_named():
    with pytest.raises(BadInput, match="give one of: net"):
        trainer(SkipgradCallback("body")).fit(Tiny(), loader())


@pytest.mark.slow
def test_a_missing_library_says_which_extra_to_install():
    code = """
import sys
sys.modules["lightning"] = None
sys.modules["lightning.pytorch"] = None
try:
    import skipgrad.integrations.lightning
except Exception as error:
    print(type(error).__name__, "skipgrad[train]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtra", "True"]
