"""The applications: nets that differ in their skips alone, what is asked of them, and that the short versions hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from skipgrad.core import Recipe
from skipgrad.lab import CLAIMS, run_claim
from skipgrad.lab.applications import SHARE, WITH, WITHOUT, Measure, contest, share_of
from skipgrad.lab.claim import Claim, Setting
from skipgrad.lab.draw import svg
from skipgrad.lab.trained import Own
from skipgrad.ledger import watch

APPS = [name for name in CLAIMS.built_in if CLAIMS.get(name).topic == "application"]
SLOW = ("APP-CLASSIFICATION", "APP-SEGMENTATION", "APP-DETECTION", "APP-FLOW", "APP-DIFFUSION")


def test_the_six_are_there() -> None:
    words = ("CLASSIFICATION", "SEGMENTATION", "DETECTION", "FLOW", "LANGUAGE", "DIFFUSION")
    assert [f"APP-{word}" for word in words] == APPS


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in APPS])
def test_the_short_version_holds(name: str) -> None:
    verdict = run_claim(name, quick=True, seeds=[0])
    claim: Claim = CLAIMS.get(name)
    (figure,) = verdict.figures
    values = dict(figure.values)
    assert verdict.state != "not reproduced", verdict.reason
    assert values[claim.effect] > 0
    assert 0 < values[f"{SHARE}, {WITH}"] < 1
    assert all(math.isfinite(v) for v in values.values())
    # The same from the stored figures, without running anything.
    again = claim.verdict({0: values}, quick=True, seconds=verdict.seconds)
    assert (again.state, again.reason) == (verdict.state, verdict.reason)
    assert svg(claim.picture(verdict.figures), claim.title).startswith("<svg")
    # Without skips it is no smaller net.
    assert values[f"weights, {WITHOUT}"] >= values[f"weights, {WITH}"]


@pytest.mark.parametrize("higher", [True, False], ids=["higher", "lower"])
def test_a_gap_is_positive_where_skips_help_and_a_net_that_has_not_learned_cannot_tell(higher: bool) -> None:
    sign = 1 if higher else -1
    measure = Measure("score", higher, learned=sign * 1.0, gap=0.5)

    def judged(good: float, bad: float) -> bool | None:
        values = {measure.of(WITH): sign * good, measure.of(WITHOUT): sign * bad}
        values[measure.gained] = measure.gap_of(values)
        assert values[measure.gained] == pytest.approx(good - bad)
        return measure.judge(values)

    assert judged(2.0, 1.0) is True
    assert judged(2.0, 1.75) is False
    assert judged(1.5, 2.0) is False
    assert judged(0.5, 0.0) is None


class Line(nn.Module):
    """w·x with a skip around w, or without."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.first, self.w, self.skip = nn.Linear(3, 3), nn.Linear(3, 3, bias=False), skip
        nn.init.constant_(self.w.weight, 0.0)
        self.w.weight.data += 2 * torch.eye(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return x + self.w(x) if self.skip else self.w(x)


def _lines() -> dict[str, Own]:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    return {
        n: Own(lambda s=s: Line(s), x, x, lambda o, y: ((o - y) ** 2).mean())
        for n, s in ((WITH, True), (WITHOUT, False))
    }


def test_the_share_is_that_of_the_gradient() -> None:
    model = Line(True)
    with watch(model, budget=None) as ledger:
        model(torch.randn(4, 3)).sum().backward()
    # The branch doubles the gradient, the skip hands it on: 1 / (1 + 4).
    assert share_of(ledger) == pytest.approx(0.2)
    assert share_of(ledger, long=True) is None


def test_every_net_is_scored_at_the_rate_with_the_lowest_training_loss() -> None:
    measure = Measure("error", higher=False, learned=1.0, gap=0.0)

    def score(model: Any) -> float:
        assert not model.training
        return float(model.w.weight.square().sum())

    def run(rates: tuple[float, ...], quick: bool = False) -> dict[str, float]:
        return contest(_lines(), Recipe(20, 20, "sgd"), rates, measure, score, Setting(0, quick))

    both = run((1e-6, 0.05))
    assert both[f"rate, {WITH}"] == both[f"rate, {WITHOUT}"] == 0.05
    assert both == run((0.05, 1e-6))
    assert run((1e-6, 0.05), quick=True)[f"rate, {WITH}"] == 1e-6
    assert f"{SHARE}, {WITH}" in both
    assert f"{SHARE}, {WITHOUT}" not in both
    # A rate at which it diverges is no better than one at which it stands still; and alone it gets the worst score.
    assert run((1e6, 0.05))[f"rate, {WITH}"] == 0.05
    assert run((1e30,))[measure.of(WITH)] == math.inf


def test_the_nets_without_skips_have_none_and_the_same_weights() -> None:
    from skipgrad.finder import find
    from skipgrad.lab.claims.app_language import Chars

    ids = torch.randint(256, (2, 8))
    with_, without = (find(Chars(skips, depth=2), ids) for skips in (True, False))
    assert (len(with_.skips), len(without.skips)) == (4, 0)
    assert [p.shape for p in Chars(True).parameters()] == [p.shape for p in Chars(False).parameters()]


def test_detectors_differ_in_their_laterals_alone() -> None:
    pytest.importorskip("torchvision")
    from skipgrad.models.nets.fasterrcnn import Pyramid

    x = torch.randn(1, 3, 64, 64)
    made = {}
    for laterals in (True, False):
        torch.manual_seed(0)
        pyramid = Pyramid(laterals).eval()
        made[laterals] = pyramid(x), sum(p.numel() for p in pyramid.parameters())
    (with_, n), (without, m) = made[True], made[False]
    assert n == m
    assert [tuple(f.shape[-2:]) for f in with_.values()] == [(16, 16), (8, 8), (4, 4)]
    assert torch.equal(with_["2"], without["2"])  # nothing comes down to the coarsest
    assert not torch.allclose(with_["0"], without["0"])


def test_scenes_are_what_their_boxes_say_and_a_perfect_detector_scores_one() -> None:
    pytest.importorskip("torchmetrics")
    pytest.importorskip("pycocotools")
    from skipgrad.lab.scenes import mean_average_precision
    from skipgrad.models.data.detection import scenes

    x, targets = scenes(6, 3)
    assert torch.equal(x, scenes(6, 3)[0])
    for target in targets:
        for box, label, mask in zip(target["boxes"].int().tolist(), target["labels"], target["masks"], strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            left, top, right, bottom = box
            assert (int(columns.min()), int(rows.min())) >= (left, top)
            assert int(columns.max()) < right
            assert int(rows.max()) < bottom
            assert 1 <= int(label) <= 3

    class Knows(nn.Module):
        def __init__(self, shift: float) -> None:
            super().__init__()
            self.shift, self.at = shift, 0

        def forward(self, images: list[Any]) -> list[dict[str, Any]]:
            kept = targets[self.at : self.at + len(images)]
            self.at += len(images)
            return [
                {"boxes": t["boxes"] + self.shift, "labels": t["labels"], "scores": torch.ones(len(t["labels"]))}
                for t in kept
            ]

    assert mean_average_precision(Knows(0.0), x, targets)["map"] == pytest.approx(1.0)
    assert mean_average_precision(Knows(40.0), x, targets)["map"] < 0.1


@pytest.mark.parametrize("name", ["RAFT", pytest.param("Mask R-CNN", marks=pytest.mark.slow)])
def test_nets_of_others_are_found_and_measured(name: str) -> None:
    pytest.importorskip("torchvision")
    from skipgrad.lab.claims.app_detection import mask_rcnn
    from skipgrad.lab.claims.app_flow import raft

    values = {"RAFT": raft, "Mask R-CNN": mask_rcnn}[name](0)
    assert values[f"{name}: skips found"] >= 16
    # RAFT detaches its flow between updates: skips that are only on that way get no gradient.
    assert 16 <= values[f"{name}: skips measured"] <= values[f"{name}: skips found"]
    assert 0 < values[f"{name}: {SHARE}"] < 1
    assert values[f"{name}: largest residual"] < 1e-4
