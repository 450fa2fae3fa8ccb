"""Tuned shallow, trained deep."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipgrad.boost import BoostOptions, boost_job
from skipgrad.boost.carries import drift, told
from skipgrad.boost.place import ground_of
from skipgrad.boost.sibling import sibling
from skipgrad.core import BadInput, Recipe
from skipgrad.models import fit, resolve_model

pytest.importorskip("optuna")


def test_siblings_by_name_and_by_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert sibling(resolve_model("skipgrad:preln12", {}), {}, 3) == ("skipgrad:preln3", {}, 12)
    assert sibling(resolve_model("skipgrad:resnet56", {}), {"norm": "none"}, 20)[:2] == (
        "skipgrad:resnet20", {"norm": "none"},
    )  # fmt: skip
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def deep(num_layers=6): return nn.Sequential(*[nn.Linear(4, 4) for _ in range(num_layers)])\n"
        "def fixed(width=4): return nn.Linear(width, width)\n"
    )
    monkeypatch.chdir(tmp_path)
    deep, fixed = resolve_model("mine.py:deep", {}), resolve_model("mine.py:fixed", {})
    assert sibling(deep, {}, 2) == ("mine.py:deep", {"num_layers": 2}, 6)
    assert sibling(deep, {"num_layers": 9}, 2)[2] == 9
    with pytest.raises(BadInput, match="without an argument for its depth"):
        sibling(fixed, {}, 2)
    with pytest.raises(BadInput, match="below the net's own"):
        sibling(deep, {}, 6)


def test_it_tunes_on_the_shallow_net_and_carries_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = BoostOptions(
        "skipgrad:preln4", "text", recipe=Recipe(steps=20, batch_size=2, lr=3e-3), trials=1, seeds=1, threads=1,
        tune_at_depth=1, remedies=("zero-init",), out=tmp_path,
    )  # fmt: skip
    result = boost_job(options)
    one = next(c for c in result.contestants if c.name == "depth-transfer")
    assert one.trials == 3  # one setting on three seeds
    assert one.runs == 1
    assert one.settings["lr"] == 3e-3
    assert any("shallow net (depth 1)" in note for note in result.notes)
    assert "tuned_at=2" in one.lines  # one block, two skips
    # A recipe under 1/m: a step changes the deep net about as much as the shallow one.
    assert 0.3 < result.q < 3
    assert any(note.startswith("q = D_deep / D_shallow over 20 steps") for note in result.notes)
    assert result.to_dict()["q"] == result.q
    monkeypatch.setattr("skipgrad.boost.transfer.drift", lambda *_: pytest.fail("measured again"))
    again = boost_job(options)
    assert again.contestants == result.contestants
    assert again.q == result.q


def test_q_of_equal_nets_is_one_and_its_sentence_says_which_way():
    recipe = Recipe(steps=60, batch_size=2, optimizer="adamw", lr=3e-3)
    two = ground_of(fit("skipgrad:preln1", {}, "text", batch_size=2), None, "cpu")
    assert drift("depth-transfer", two, two, recipe, [0], {"tuned_at": 2}) == 1.0
    plain = ground_of(fit("skipgrad:plain8", {}, "digits", batch_size=8), None, "cpu")
    assert drift("depth-transfer", plain, plain, recipe, [0], {"tuned_at": 2}) is None
    assert "carries" in told(1.0)
    assert "too high" in told(1.3)
    assert "higher rate" in told(0.5)


def test_without_a_search_it_runs_at_the_typed_rates(tmp_path: Path):
    options = BoostOptions(
        "skipgrad:resnet14", "digits", recipe=Recipe(steps=20, batch_size=8, lr=0.01), trials=1, seeds=1, threads=1,
        tune_at_depth=8, remedies=("add-skips",), ruleset="self-tuning", out=tmp_path,
    )  # fmt: skip
    one = next(c for c in boost_job(options).contestants if c.name == "depth-transfer")
    assert (one.trials, one.runs) == (0, 3)


@pytest.mark.slow
def test_an_optimum_at_the_edge_is_not_carried(tmp_path: Path):
    # The typed rate is far too low, so that the highest of the search is the best.
    options = BoostOptions(
        "skipgrad:resnet14", "digits", recipe=Recipe(steps=20, batch_size=16, lr=1e-4), trials=6, seeds=1, threads=1,
        tune_at_depth=8, remedies=("add-skips",), out=tmp_path,
    )  # fmt: skip
    result = boost_job(options)
    one = next(c for c in result.contestants if c.name == "depth-transfer")
    assert one.state == "refused"
    assert "the highest end of the search" in one.reason or "does not train" in one.reason


def test_a_net_without_a_depth_is_refused_before_training(tmp_path: Path):
    options = BoostOptions("skipgrad:preln2", "text", tune_at_depth=2, out=tmp_path / "new")
    with pytest.raises(BadInput, match="--tune-at-depth"):
        boost_job(options)
    assert not (tmp_path / "new").exists()
