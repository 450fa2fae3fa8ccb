"""Trials on workers: the same race, and a worker that dies costs its trial alone."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from boost.test_judge import BASE, entry, falling, judged
from skipgrad.boost import BoostOptions, BoostResult, boost_job
from skipgrad.core import Recipe
from skipgrad.store import read_run

pytest.importorskip("optuna")

# A net that no pickle takes, and that kills a worker in the middle of the first trial of seed 1.
NET = """
import os, signal
from pathlib import Path

import torch
from torch import nn

FLAGS = Path(__file__).parent / "flags"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        return x + self.two(torch.relu(self.one(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
        self.blocks = nn.Sequential(*[Block() for _ in range(3)])
        self.own, self.seed, self.steps = (lambda x: x), torch.initial_seed(), 0

    def forward(self, x):
        if self.training and torch.is_grad_enabled() and os.getpid() != int(os.environ["SKIPGRAD_TEST_PARENT"]):
            self.steps += 1
            if self.steps == 1:
                (FLAGS / f"{self.seed} {os.getpid()} {len(list(FLAGS.iterdir()))}").touch()
            if self.steps == 5 and self.seed == 1 and not (FLAGS / "died").exists():
                (FLAGS / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.blocks(self.own(self.stem(x.flatten(1)))))
"""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BoostOptions:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "flags").mkdir()
    monkeypatch.setenv("SKIPGRAD_TEST_PARENT", str(os.getpid()))
    return BoostOptions(
        f"{tmp_path / 'net.py'}:Net", "digits", recipe=Recipe(steps=24, batch_size=16), trials=2, seeds=2,
        remedies=("zero-init",), out=tmp_path / "apart", workers=2,
    )  # fmt: skip


def begun(folder: Path) -> Counter[str]:
    """How many trials of each seed began on workers; a forward of `fit` has another seed."""
    seeds = [p.name.split()[0] for p in (folder / "flags").iterdir()]
    return Counter(s for s in seeds if s in ("0", "1", "2"))


def check(result: BoostResult, options: BoostOptions, tmp_path: Path) -> None:
    """One worker died and one trial was begun again; all else is the race of one process."""
    assert (tmp_path / "flags" / "died").exists()
    assert begun(tmp_path) == {"0": 4, "1": 3, "2": 2}
    trials = read_run(result.run_path).trials
    assert len(trials) == 8
    assert {t.state for t in trials} == {"done"}
    alone = boost_job(replace(options, out=tmp_path / "alone", workers=1, ray=None, threads=1))
    assert begun(tmp_path) == {"0": 4, "1": 3, "2": 2}  # this one was here
    assert result.baseline.settings == alone.baseline.settings
    assert result.target.loss == pytest.approx(alone.target.loss, rel=1e-4)
    assert result.contestants[0].steps_ratio == pytest.approx(alone.contestants[0].steps_ratio, rel=0.1)
    assert result.contestants[0].other_machine == 0


def test_two_processes_of_which_one_is_killed(options: BoostOptions, tmp_path: Path):
    check(boost_job(options), options, tmp_path)


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_of_which_one_is_killed(options: BoostOptions, tmp_path: Path):
    ray = pytest.importorskip("ray")
    options = replace(options, ray="local")
    check(boost_job(options), options, tmp_path)
    assert not ray.is_initialized()


def test_seconds_of_two_machines_are_not_compared():
    elsewhere = [replace(entry("x", s, falling(4.0)), machine="a faster one") for s in (1, 2)]
    here = [entry("x", s, falling(4.0)) for s in (3, 4, 5)]
    both, three = judged([*elsewhere, *here]), judged(here)
    assert both.other_machine == 2
    assert both.time_ratio == three.time_ratio
    assert both.interval == three.interval
    assert both.runs == 5
    none = judged([replace(e, machine="a faster one") for e in BASE])
    assert none.time_ratio is None
    assert none.steps_ratio == 1.0
    assert none.state == "no change"
