import pytest

from diagnosis.rows import judge, layers, losses, residual_graph, skip, skip_rows
from skipgrad.core import Measurements, SkipGraph
from skipgrad.diagnosis._series import deepest_nest


def u_net(depth: int = 4, **changes) -> SkipGraph:
    """Long skips in order of their merges: the innermost first."""
    values = {"kind": "concat", "long": True} | changes
    skips = tuple(skip(f"u{i}", i, 2 * depth - i, **values) for i in reversed(range(depth)))
    return SkipGraph(skips, layers=layers(2 * depth + 1))


def uneven(factor: float, graph: SkipGraph | None = None, run=()) -> Measurements:
    """Gradients that grow by a factor from level to level, outwards."""
    graph = graph or u_net()
    return Measurements(
        graph, skip_rows([s.name for s in graph.skips], lambda t, i: {"skip_norm": factor**i}), losses=losses(run)
    )


def test_unmeasured_is_skipped():
    assert judge("SG008", Measurements(u_net())).state == "skipped"


def test_what_stock_u_nets_stand_at_passes():
    finding = judge("SG008", uneven(5.0))  # 125 from outermost to innermost
    assert finding.state == "passed"
    assert finding.evidence["outer_to_inner_gradient"] == pytest.approx(125)


def test_far_beyond_it_is_told_and_a_warning_where_the_run_does_not_learn():
    finding = judge("SG008", uneven(10.0))
    assert (finding.state, finding.severity, finding.remedies) == ("found", "info", ())
    assert finding.where == ("u0", "u1", "u2", "u3")
    assert "κ" in finding.prescription
    assert judge("SG008", uneven(10.0, run=[2.3] * 30)).severity == "warning"
    assert judge("SG008", uneven(10.0, run=[2.3 * 0.9**t for t in range(30)])).severity == "info"


def test_added_long_skips_count_too():
    assert judge("SG008", uneven(10.0, u_net(kind="add"))).state == "found"


def test_scales_do_not_hide_what_is_measured():
    finding = judge("SG008", uneven(10.0, u_net(shortcut="scaled")))
    assert finding.state == "found"
    assert "scaled already" in finding.prescription


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
