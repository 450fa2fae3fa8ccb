"""What `skipgrad train`'s loop costs: time of steps beside a bare PyTorch loop, Lightning's Trainer and transformers'.

All train the same net from the same weights on the same batches, in turns within one process, one thread; the figure is
the median over rounds of the ratio of a round's time to the bare loop's in the same round. `skipgrad train` is measured
by its own clock over the same steps: what it does in them (fetching batches by index, checks of the loss, rates, run
file, ledger) is in it, the evaluation and the checkpoints between them are not.

    python benchmarks/train.py [--rounds 7] [--steps 300] [--case NAME …] [--way NAME …]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import machine, versions
from torch import nn
from torch.nn import functional as F

from skipgrad.core.training import TrainingRecipe
from skipgrad.models import Workload, fit
from skipgrad.store import read_run
from skipgrad.train.job import TrainOptions, train

RECIPE = TrainingRecipe(batch_size=32, optimizer="sgd", lr=0.05, holdout=0.0, epochs=None)
CASES = {"resnet20 on digits": ("skipgrad:resnet20", "digits"), "preln4 on text": ("skipgrad:preln4", "text")}
WARM = 5  # steps at the start that do not count


def bare(work: Workload, steps: int) -> float:
    """A loop as one writes it: seconds of the steps after the first."""
    torch.manual_seed(0)
    model, batches = work.build(), work.batches(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    for step in range(steps):
        if step == WARM:
            begin = time.perf_counter()
        batch = next(batches)
        optimizer.zero_grad(set_to_none=True)
        loss = work.loss(model(*batch.args, **batch.kwargs), batch)
        loss.backward()
        optimizer.step()
        loss.item()
    return time.perf_counter() - begin


def ours(work: Workload, steps: int, refs: tuple[str, str], every: int | None) -> float:
    """`skipgrad train`: its own seconds of the same steps; ``every`` 0 without the ledger, None as it chooses."""
    with tempfile.TemporaryDirectory() as out:
        recipe = RECIPE.with_values({"steps": steps, "measure_every": every})
        train(TrainOptions(*refs, out, recipe=recipe, threads=1, save_every=1e9))
        losses = read_run(Path(out) / "run.sqlite").losses
    return losses[-1].seconds - losses[WARM - 1].seconds


class Samples(torch.utils.data.IterableDataset[Any]):
    """The same batches for the trainers of others."""

    def __init__(self, work: Workload, steps: int) -> None:
        self.work, self.steps = work, steps

    def __iter__(self) -> Any:
        batches = self.work.batches(0)
        for _ in range(self.steps):
            batch = next(batches)
            yield {"x": batch.args[0], "labels": batch.target}


def lightning(work: Workload, steps: int) -> float:
    """Lightning's Trainer, with nothing switched on."""
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net, self.begin, self.took = work.build(), 0.0, 0.0

        def training_step(self, batch: Any, number: int) -> Any:
            if number == WARM:
                self.begin = time.perf_counter()
            logits = self.net(batch["x"])
            return F.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

        def on_train_end(self) -> None:
            self.took = time.perf_counter() - self.begin

    module = Module()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(max_steps=steps, accelerator="cpu", devices=1, **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(Samples(work, steps), batch_size=None))
    return module.took


def transformers_(work: Workload, steps: int) -> float:
    """Hugging Face's Trainer, with nothing switched on."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = work.build()

        def forward(self, x: Any, labels: Any) -> Any:
            logits = self.net(x)
            return {"loss": F.cross_entropy(logits.flatten(0, -2), labels.flatten()), "logits": logits}

    class Watch(TrainerCallback):
        begin = took = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == WARM:
                self.begin = time.perf_counter()

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.took = time.perf_counter() - self.begin

    watch = Watch()
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            max_steps=steps,
            optim="sgd",
            learning_rate=0.05,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        )

        class Same(Trainer):
            def get_train_dataloader(self) -> Any:
                return torch.utils.data.DataLoader(Samples(work, steps), batch_size=None)

            def create_optimizer(self, *_: Any) -> Any:
                self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
                return self.optimizer

        Same(Net(), arguments, callbacks=[watch]).train()
    return watch.took


def compare(name: str, rounds: int, steps: int, wanted: Sequence[str] = ()) -> None:
    """Ratios to the bare loop, round by round; of all ways, or those that are named."""
    refs = CASES[name]
    work = fit(refs[0], {}, refs[1], batch_size=RECIPE.batch_size)
    ways: dict[str, Callable[[], float]] = {
        "bare": lambda: bare(work, steps),
        "skipgrad train, no ledger": lambda: ours(work, steps, refs, 0),
        "skipgrad train": lambda: ours(work, steps, refs, None),
        "lightning.Trainer": lambda: lightning(work, steps),
        "transformers.Trainer": lambda: transformers_(work, steps),
    }
    ways = {way: run for way, run in ways.items() if way == "bare" or not wanted or way in wanted}
    for way in ways.values():
        way()  # imports and first steps
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        order = list(ways)
        order = order[number % len(order) :] + order[: number % len(order)]
        for way in order:
            times[way].append(ways[way]())
    ratios = {way: [t / b for t, b in zip(took, times["bare"], strict=True)] for way, took in times.items()}
    told = {
        way: {
            "ratio": median(found),
            "lowest": min(found),
            "highest": max(found),
            "samples_a_second": RECIPE.batch_size * (steps - WARM) / median(times[way]),
        }
        for way, found in ratios.items()
    }
    for way, figures in told.items():
        print(
            f"{name}: {way}: {figures['ratio']:.3f} ({figures['lowest']:.3f} to {figures['highest']:.3f})", flush=True
        )


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument(
        "--way", action="append", default=[], help="beside the bare loop; repeatable; all when left out"
    )
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    print(__doc__.partition("\n")[0])
    print(f"{machine()}; one thread; {versions('torch', 'lightning', 'transformers')}")
    print(
        f"{told.rounds} rounds of {told.steps} steps of {RECIPE.batch_size} samples, in turns; ratio to the bare loop\n"
    )
    for name in told.case or CASES:
        compare(name, told.rounds, told.steps, told.way)


if __name__ == "__main__":
    main()
