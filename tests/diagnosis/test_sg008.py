import pytest

from diagnosis.rows import judge, layers, residual_graph, skip, skip_rows
from skipgrad.core import Measurements, SkipGraph
from skipgrad.diagnosis.checks.sg008_unscaled_long_skips import deepest_nest


def u_net(depth: int = 4, **changes) -> SkipGraph:
    """Long skips in order of their merges: the innermost first."""
    values = {"kind": "concat", "long": True} | changes
    skips = tuple(skip(f"u{i}", i, 2 * depth - i, **values) for i in reversed(range(depth)))
    return SkipGraph(skips, layers=layers(2 * depth + 1))


def test_unscaled_and_unmeasured_is_a_hint():
    finding = judge("SG008", Measurements(u_net()))
    assert (finding.state, finding.severity) == ("found", "info")
    assert finding.where == ("u0", "u1", "u2", "u3")
    assert finding.remedies == ()
    assert "κ" in finding.prescription


def test_uneven_gradients_are_a_warning():
    graph = u_net()
    names = [s.name for s in graph.skips]
    finding = judge("SG008", Measurements(graph, skip_rows(names, lambda t, i: {"skip_norm": 3.0**i})))
    assert finding.severity == "warning"
    assert finding.evidence["outer_to_inner_gradient"] == pytest.approx(27)
    even = judge("SG008", Measurements(graph, skip_rows(names)))
    assert even.severity == "info"


def test_added_long_skips_count_too():
    assert judge("SG008", Measurements(u_net(kind="add"))).state == "found"


@pytest.mark.parametrize("shortcut", ["scaled", "projection"])
def test_scaled_ones_pass(shortcut):
    assert judge("SG008", Measurements(u_net(shortcut=shortcut))).state == "passed"


def test_what_is_no_u_does_not_apply():
    assert judge("SG008", Measurements(residual_graph(9))).state == "not applicable"
    # DenseNet's concats share their start.
    dense = SkipGraph(tuple(skip(f"d{i}", 0, i + 1, kind="concat", long=i > 0) for i in range(6)))
    assert judge("SG008", Measurements(dense)).state == "not applicable"
    # Long skips in a row, as in a residual-in-residual net without an outer one.
    row = SkipGraph(tuple(skip(f"r{i}", 4 * i, 4 * i + 4, long=True) for i in range(6)))
    assert judge("SG008", Measurements(row)).state == "not applicable"
    assert judge("SG008", Measurements(u_net(1))).state == "not applicable"


def test_deepest_nest():
    skips = [skip("in", 3, 4), skip("mid", 2, 5), skip("out", 0, 9), skip("beside", 6, 8), skip("same", 0, 8)]
    assert [s.name for s in deepest_nest(skips)] == ["out", "mid", "in"]
    assert deepest_nest([]) == []
