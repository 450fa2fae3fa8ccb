"""The overhead benchmark: its arithmetic on fixed times, what it does with a peer that fails, and all of it, tiny."""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
JOB = {"net": "resnet20", "smoke": True, "device": "cpu", "threads": 1, "rounds": 2, "steps": 3}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's modules, by the second part of their names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("table", "job", "variants", "groups", "nets")
    return SimpleNamespace(**{n: importlib.import_module(f"overhead_{n}") for n in names})


@pytest.fixture
def script(modules: Any) -> Any:
    return importlib.import_module("overhead")


# -- arithmetic ----------------------------------------------------------------------------------------------------


def test_ratios_of_fixed_times(modules: Any) -> None:
    # Rounds of 1.5, 1.1, 1.2, 1.25, 2.0 times the plain step; the machine is slow in the last two.
    plain = {"wall": [1.0, 1.0, 2.0, 4.0, 8.0], "processor": [1.0, 1.0, 1.0, 2.0, 2.0]}
    other = {"wall": [1.5, 1.1, 2.4, 5.0, 16.0], "processor": [1.1, 1.2, 1.3, 2.8, 3.0]}
    got = modules.table.ratio(other, plain, True)
    assert got.median == pytest.approx(1.25)
    assert (got.low, got.high) == (pytest.approx(1.2), pytest.approx(1.5))
    assert got.of_quartiles == pytest.approx(1.5 / 1.0)
    assert got.of_minima == pytest.approx(1.1)
    assert got.processor == pytest.approx(1.3)
    assert got.interval is None  # five rounds are too few
    assert modules.table.ratio(other, plain, False).processor is None


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (15, 4), (30, 10), (100, 40)])
def test_the_interval_of_a_median_has_the_ranks_of_the_sign_test(modules: Any, n: int, rank: int) -> None:
    values = [float(k) for k in range(n, 0, -1)]
    assert modules.table.median_interval(values) == (float(rank), float(n + 1 - rank))  # as in any table of them


def test_a_goal_is_met_missed_or_left_open(modules: Any) -> None:
    table = modules.table

    def of(values: list[float]) -> str:
        ones = [1.0] * len(values)
        row = {"wall": values, "processor": ones}
        return table.verdict(table.ratio(row, {"wall": ones, "processor": ones}, True), 1.03)

    assert of([1.0, 1.01, 1.01, 1.02, 1.02, 1.03]) == "1.03 met"
    assert of([1.04, 1.05, 1.06, 1.06, 1.07, 1.08]) == "1.03 missed"
    assert of([1.0, 1.01, 1.01, 1.02, 1.02, 1.031]) == "1.03 open"
    assert of([9.0] * 5) == "1.03 open"


def test_a_variant_is_compared_with_its_own_baseline(modules: Any) -> None:
    def row(name: str, baseline: str, second: float) -> dict[str, Any]:
        return {"variant": name, "baseline": baseline, "wall": [second] * 3, "processor": [second] * 3, "goal": None}

    names = [("plain", "plain", 1.0), ("slow", "plain", 4.0), ("hooks", "slow", 8.0), ("lost", "gone", 1.0)]
    got = modules.table.ratios({"rows": [row(*n) for n in names]}, True)
    assert {name: r.median for name, r in got.items()} == {"slow": 4.0, "hooks": 2.0}


def test_the_memory_table(modules: Any) -> None:
    rows = {
        "plain": {"live": 100e6, "resident": [500e6, 510e6, 490e6], "before": [300e6] * 3},
        "ledger, every step": {"live": 103e6, "resident": [520e6, 510e6, 530e6], "before": [300e6] * 3},
        "ledger, every 10th": {"live": 101e6, "resident": [505e6] * 3, "before": [300e6] * 3},
        "a peer": {"failed": "ValueError: too deep"},
    }
    lines = modules.table.memory_table("a net", rows, 1.02)
    assert [line.split() for line in lines[2:]] == [
        ["plain", "100.00", "1.0000x", "500.0", "[490.0-510.0]", "1.0000x"],
        ["ledger,", "every", "step", "103.00", "1.0300x", "520.0", "[510.0-530.0]", "1.0400x", "1.02", "missed"],
        ["ledger,", "every", "10th", "101.00", "1.0100x", "505.0", "[505.0-505.0]", "1.0100x", "1.02", "met"],
        ["a", "peer", "failed:", "ValueError:", "too", "deep"],
        ["(the", "process", "has", "300", "MB", "before", "there", "is", "a", "model)"],
    ]


# -- taking turns --------------------------------------------------------------------------------------------------


class Fixed:
    """A variant whose step takes what it is told to; fails at its n-th step."""

    def __init__(self, order: list[str], name: str, seconds: list[float], fails_at: int = 0) -> None:
        self.order, self.name, self.seconds, self.fails_at = order, name, seconds, fails_at
        self.taken = 0

    def step(self) -> float:
        self.order.append(self.name)
        self.taken += 1
        if self.taken == self.fails_at:
            raise ValueError("no more")
        return self.seconds[(self.taken - 1) % len(self.seconds)]


class Told:
    """A clock that believes what a step says it took."""

    def take(self, step: Any, times: int) -> tuple[float, float]:
        total = sum(step() for _ in range(times))
        return total, total / 2


@pytest.mark.parametrize("turn", [1, 5])
def test_variants_take_turns_and_one_that_fails_takes_no_more(modules: Any, turn: int) -> None:
    order: list[str] = []
    variants = {
        "a": Fixed(order, "a", [1.0]),
        "b": Fixed(order, "b", [1.0] * 9 + [11.0]),  # one slow step in ten
        "c": Fixed(order, "c", [1.0], fails_at=15),
    }
    times, failed = modules.job.interleave(variants, Told(), rounds=3, steps=10, turn=turn)
    assert times == {"a": [(1.0, 0.5)] * 3, "b": [(2.0, 1.0)] * 3}  # a round's share of the slow steps is in it
    assert failed == {"c": "ValueError: no more"}
    assert {name: order.count(name) for name in "abc"} == {"a": 30, "b": 30, "c": 15}
    turns = [order[k] for k in range(0, 15 * 3, turn)]  # until "c" fails, whose turns are as long as the others'
    assert all(set(turns[k : k + 3]) == set("abc") for k in range(0, len(turns), 3))
    if turn == 1:  # the other has but three turns each
        assert len({tuple(turns[k : k + 3]) for k in range(0, len(turns), 3)}) > 1  # not always in one order


def test_a_gpu_is_waited_for_before_the_clock_is_read(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: seen.append(f"wait for {device}"))
    wall, processor = modules.job.Clock("cuda:0").take(lambda: seen.append("step"), 2)
    assert seen == ["wait for cuda:0", "step", "step", "wait for cuda:0"]
    assert wall >= 0 <= processor
    seen.clear()
    modules.job.Clock("cpu").take(lambda: seen.append("step"), 1)
    assert seen == ["step"]


# -- variants ------------------------------------------------------------------------------------------------------


def test_a_group_with_a_peer_that_fails_and_one_that_is_missing(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, variants = modules.groups, modules.variants

    class Fails(variants.Variant):
        def train(self) -> None:
            raise ValueError("no embeddings\nat all")

    class Idle(variants.Variant):
        def train(self) -> None:
            pass

    made = {"idle": groups.Entry(Idle), "fails": groups.Entry(Fails), "plain": groups.Entry(variants.Variant)}
    monkeypatch.setitem(groups.GROUPS, "made", groups.Group(made))
    got = modules.job.timed({**JOB, "group": "made"})
    assert [row["variant"] for row in got["rows"]] == ["plain"]
    assert got["failed"] == {
        "idle": "RuntimeError: no weight has moved: this is no training step",
        "fails": "ValueError: no embeddings",
    }
    monkeypatch.setitem(sys.modules, "cockpit", None)
    got = modules.job.timed({**JOB, "group": "cockpit"})
    assert [row["variant"] for row in got["rows"]] == ["plain", "plain again"]
    assert set(got["failed"].values()) == {"not installed"}
    lines = modules.table.times_table("a net", {"cockpit": got}, True)
    assert lines[-1].split(maxsplit=2) == ["cockpit,", "economy", "not installed"]


_NO_INPUT = "ignore:Full backward hook is firing"  # torch says so of a model whose input needs no gradient


@pytest.mark.filterwarnings(_NO_INPUT)
def test_the_hooks_group_says_what_hooks_do_on_stock_models(modules: Any) -> None:
    pytest.importorskip("torchvision")
    got = modules.job.timed({**JOB, "net": "resnet50", "group": "hooks"})
    names = ["plain", "plain again", "plain, not in place", "hooks, not in place"]
    assert [row["variant"] for row in got["rows"]] == names
    assert got["failed"]["module hooks"].startswith("RuntimeError: Output 0 of BackwardHookFunction is a view")
    assert got["failed"]["module hooks"].endswith("…")


@pytest.mark.filterwarnings(_NO_INPUT)
def test_a_model_without_inplace_ops_computes_the_same(modules: Any) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    bottleneck = torchvision.models.resnet.Bottleneck
    model = torchvision.models.ResNet(bottleneck, [2, 1, 1, 1], num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    before = model(x)
    assert modules.variants.without_inplace(model)
    assert torch.equal(model(x), before)
    hooks = [m.register_full_backward_hook(lambda *_: None) for m in model.modules()]
    model(x).sum().backward()  # raises on the stock model
    assert len(hooks) > 20
    assert not modules.variants.without_inplace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


def test_a_watch_that_measured_nothing_is_no_result(modules: Any) -> None:
    ledger = modules.variants.Ledger((nn.Linear(3, 2), torch.randn(4, 3), torch.randint(0, 2, (4,))))
    ledger.step()
    with pytest.raises(RuntimeError, match="0 skip rows"):
        ledger.gave()
    ledger.close()


# -- memory --------------------------------------------------------------------------------------------------------


def test_the_live_peak_is_exact(modules: Any) -> None:
    def run() -> None:
        a = torch.empty(1 << 20)  # 4 MiB
        b = torch.empty(1 << 18)  # 1 MiB
        del a
        c = torch.empty(1 << 19)  # 2 MiB
        del b, c

    assert modules.job.live_peak(run) == 5 << 20
    with pytest.raises(RuntimeError, match="no allocation"):
        modules.job.live_peak(lambda: None)


@pytest.mark.parametrize("kind", ["live", "resident"])
def test_the_memory_of_a_training_loop(modules: Any, kind: str) -> None:
    job = {**JOB, "group": "ledger", "memory": kind}
    plain = modules.job.remembered({**job, "variant": "plain"})
    ledger = modules.job.remembered({**job, "variant": "ledger, every step"})
    assert ledger["gave"].endswith("3 of 3 steps")
    # Weights, their gradients and the momentum are alive together.
    weights = sum(p.numel() for p in modules.nets.build("resnet20", True, "cpu")[0].parameters())
    assert plain["bytes"] > 3 * 4 * weights
    if kind == "live":
        assert plain["bytes"] <= ledger["bytes"] < 1.5 * plain["bytes"]
    assert modules.job.remembered({**job, "group": "hooks", "variant": "plain, not in place"}) == {}


def test_plain_memory_is_measured_once_and_failures_are_kept(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def answer(job: dict[str, Any], given: Any) -> dict[str, Any]:
        asked.append((job["variant"], job["memory"]))
        if job["variant"] == "wandb.watch":
            return {"died": "its process ended with -9"}
        return {} if "not in place" in job["variant"] else {"bytes": 7, "before": 3}

    monkeypatch.setattr(script, "answer", answer)
    given = SimpleNamespace(smoke=True, device="cpu", threads=1, rounds=1, once=False)
    names = {
        "hooks": ["plain", "plain again", "module hooks", "plain, not in place"],
        "wandb": ["plain", "wandb.watch"],
    }
    rows = script.memory_of("resnet20", names, given)
    full = {"live": 7, "resident": [7, 7, 7], "before": [3, 3, 3]}
    died = {"failed": "its process ended with -9"}
    assert rows == {"plain": full, "module hooks": full, "wandb.watch": died}
    assert asked.count(("plain", "live")) == 1
    assert asked.count(("plain", "resident")) == 3
    assert ("wandb.watch", "resident") not in asked  # it has failed once


# -- the script ----------------------------------------------------------------------------------------------------


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "overhead.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_the_whole_of_it(tmp_path: Path, modules: Any) -> None:
    out = tmp_path / "folder" / "overhead.txt"
    words = ["--smoke", "--models", "resnet20", "--variants", "ledger", "wandb", "--rounds", "2", "--json"]
    done = run(*words, "--python-for-peer", "wandb=/there/is/no/python", "--out", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    net = result["nets"]["resnet20"]
    rows = {row["variant"]: row for row in net["times"]["ledger"]["rows"]}
    assert list(rows) == ["plain", "plain again", "ledger, every step", "ledger, every 10th", "ledger, skips only"]
    assert all(len(row["wall"]) == 2 and min(row["wall"]) > 0 for row in rows.values())
    # Three steps to warm up and two rounds of ten: of 23 steps every 10th is three.
    assert rows["ledger, every step"]["gave"] == "3 skips, 8 layers x 23 of 23 steps"
    assert rows["ledger, every 10th"]["gave"] == "3 skips, 8 layers x 3 of 23 steps"
    assert net["times"]["wandb"]["failed"] == {"all": "/there/is/no/python: No such file or directory"}

    text = out.read_text()
    assert text.startswith("# python benchmarks/overhead.py --smoke")
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "1 thread, 2 rounds, device cpu; smoke sizes: no result" in text
    line = next(line for line in text.splitlines() if "every step" in line)
    pairs = zip(rows["ledger, every step"]["wall"], rows["plain"]["wall"], strict=True)
    assert f"{statistics.median(a / b for a, b in pairs):.3f}x [" in line
    assert "1.03 open" in line  # two rounds decide nothing
    assert "failed: /there/is/no/python" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads", "0"], "give a whole number of at least 1"),
        (["--rounds", "some"], "give a whole number of at least 0"),
        (["--rounds", "0"], "leaves nothing to do"),
        (["--python-for-peer", "cockpit"], "give GROUP=PYTHON"),
        (["--python-for-peer", "wandbb=/bin/python"], "there is no such group"),
        (["--models", "resnet19"], "resnet19"),
    ],
)
def test_wrong_arguments_are_refused(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["overhead.py", *words])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
