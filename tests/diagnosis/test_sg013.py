from dataclasses import replace

import pytest

from diagnosis.rows import judge, layer_rows, layers, losses
from skipgrad.core import Account, Layer, Measurements, SkipGraph


def net(without: set[int], count: int = 12, frozen: set[int] = frozenset(), names=None) -> Measurements:
    """Layers in a row, some of which have no rows and some of which have rows without a gradient of the weight."""
    graph = SkipGraph((), layers=tuple(Layer(n, "linear", (8, 8), "") for n in names) if names else layers(count))
    every = [layer.name for layer in graph.layers]
    change = {"weight_grad_norm": None, "zero_grad": None}
    rows = layer_rows(len(every), lambda t, i: {"layer": every[i], **(change if i in frozen else {})})
    return Measurements(graph, layers=tuple(r for r in rows if r.depth not in without))


def test_layers_that_nothing_uses_are_named():
    finding = judge("SG013", net({4, 7}))
    assert (finding.state, finding.severity, finding.where) == ("found", "warning", ("l4", "l7"))
    assert finding.evidence["layers_without_gradient"] == 2
    assert "2 layers of 12" in finding.prescription


def test_steps_cannot_be_passed_over_them():
    finding = judge("SG003", net({4, 7}))
    assert finding.state == "skipped"
    assert "SG013" in finding.prescription
    assert judge("SG003", net(set())).state == "passed"


def test_every_layer_has_a_gradient():
    finding = judge("SG013", net(set()))
    assert finding.state == "passed"
    assert finding.evidence["frozen_layers"] == 0


def test_layers_that_are_frozen_are_no_alarm():
    # Their results have a gradient, their weights have none.
    finding = judge("SG013", net(set(), frozen=set(range(8))))
    assert finding.state == "passed"
    assert "8 layers look frozen" in finding.prescription


@pytest.mark.parametrize(("first", "state"), [(2, "found"), (10, "passed")])
def test_a_beginning_without_gradient_looks_frozen(first, state):
    finding = judge("SG013", net(set(range(first))))
    assert (finding.state, finding.severity) == (state, "info" if state == "found" else "warning")
    assert "frozen" in finding.prescription


def test_a_tower_without_gradient_looks_frozen():
    names = [f"image.{i}" for i in range(9)] + [f"text.{i}" for i in range(9)] + ["head"]
    tower = judge("SG013", net(set(range(9, 18)), names=names))
    assert (tower.state, tower.severity) == ("found", "info")
    assert judge("SG013", net({9, 10}, names=names)).severity == "warning"


def test_the_ledgers_account_has_the_last_word():
    measured = net({0, 4, 7})
    told = {layer.name: "reached" for layer in measured.graph.layers}
    account = Account(layers={**told, "l0": "not reached", "l4": "frozen", "l7": "not run"})
    finding = judge("SG013", replace(measured, account=account))
    assert finding.where == ("l0",)
    assert finding.evidence["layers_not_run"] == 1


def test_a_run_in_which_no_backward_came_to_any_layer():
    graph = SkipGraph((), layers=layers(3))
    told = {"l0": "not reached", "l1": "not reached", "l2": "not run"}
    account = Account(forwards=10, measured=10, without=10, layers=told)
    measured = Measurements(graph, losses=losses([1.0] * 10), account=account)
    finding = judge("SG013", measured)
    assert (finding.state, finding.severity, finding.where) == ("found", "warning", ("l0", "l1"))
    # Nobody trains, or the ledger could not measure: then it is not known.
    assert judge("SG013", replace(measured, losses=())).state == "skipped"
    unseen = replace(account, forwards=12, unmeasured={"why": 2})
    assert judge("SG013", replace(measured, account=unseen)).state == "skipped"


def test_nothing_measured():
    assert judge("SG013", Measurements(SkipGraph((), layers=layers(4)))).state == "skipped"
    assert judge("SG013", Measurements(SkipGraph(()))).state == "not applicable"
