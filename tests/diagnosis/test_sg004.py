import pytest

from diagnosis.rows import judge, layers, losses, residual_graph, skip
from skipgrad.core import Measurements, SkipGraph, Suggestion
from skipgrad.diagnosis.checks.sg004_deep_and_skipless import longest_stretch


def test_found_and_its_figures():
    hint = Suggestion("l3", "l4", 2, (8, 16, 8, 8), (8, 16, 8, 8), "identity")
    finding = judge("SG004", Measurements(SkipGraph((), layers=layers(20), suggestions=(hint,))))
    assert (finding.state, finding.severity) == ("found", "info")  # depth alone harms nobody
    assert finding.where == ("l0", "l19")
    assert finding.evidence["longest_stretch"] == 20
    assert "l3 to l4" in finding.prescription
    assert finding.remedies == ("add-skips",)


@pytest.mark.parametrize(("count", "alone", "stuck"), [(20, "info", "warning"), (56, "warning", "error")])
def test_depth_is_judged_by_what_it_costs(count, alone, stuck):
    graph = SkipGraph((), layers=layers(count))
    assert judge("SG004", Measurements(graph)).severity == alone
    assert judge("SG004", Measurements(graph, losses=losses([2.3] * 30))).severity == stuck
    learned = judge("SG004", Measurements(graph, losses=losses([2.3 * 0.9**t for t in range(30)])))
    assert (learned.state, learned.severity, learned.remedies) == ("found", "info", ())
    assert "nothing needs doing" in learned.prescription


def test_a_stretch_beside_skips():
    graph = SkipGraph((skip("a", 1, 3), skip("b", 20, 22)), layers=layers(30))
    assert longest_stretch(graph) == (3, 20)
    assert judge("SG004", Measurements(graph)).state == "found"


@pytest.mark.parametrize(
    ("spans", "stretch"),
    [((), (0, 10)), (((0, 10),), (0, 0)), (((0, 3), (3, 99)), (0, 0)), (((2, 4),), (4, 10)), (((5, 5),), (0, 10))],
)
def test_longest_stretch(spans, stretch):
    skips = tuple(skip(f"s{i}", a, b) for i, (a, b) in enumerate(spans))
    assert longest_stretch(SkipGraph(skips, layers=layers(10))) == stretch


def test_shallow_does_not_apply_and_bridged_passes():
    assert judge("SG004", Measurements(SkipGraph((), layers=layers(15)))).state == "not applicable"
    assert judge("SG004", Measurements(residual_graph(20))).state == "passed"
