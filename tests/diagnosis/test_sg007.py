import dataclasses

import pytest

from diagnosis.rows import healthy_residual, judge, layers, losses, residual_graph, skip, skip_rows
from skipgrad.core import Measurements, SkipGraph


def measured(graph: SkipGraph, shortcut: float = 1.0, trunk: float = 1.0) -> Measurements:
    """Every shortcut multiplies the gradient by ``shortcut``, every way between two skips by ``trunk``."""
    rows = []
    for i in range(len(graph.skips)):
        # The gradient at a merge is that at the next fork, times what lies between; 1 at every fork.
        out = trunk if i < len(graph.skips) - 1 else 1.0
        rows.append({"total_norm": 1.0, "out_norm": out, "skip_norm": shortcut * out})
    return Measurements(graph, skip_rows([s.name for s in graph.skips], lambda t, i: rows[i]))


def test_post_ln():
    finding = judge("SG007", measured(residual_graph(9, trunk=("layer_norm",)), trunk=0.7))
    assert (finding.state, finding.severity) == ("found", "warning")
    assert finding.evidence["norms_between_skips"] == 8
    assert finding.evidence["norm_gain"] == pytest.approx(0.7, rel=1e-4)
    assert finding.evidence["shortcut_product"] == pytest.approx(0.7**8, rel=1e-4)
    assert finding.where[0] == "b1"
    assert "Post-LN" in finding.prescription


def test_post_ln_shows_without_any_measurement():
    graph = residual_graph(4, trunk=("layer_norm",))
    finding = judge("SG007", Measurements(graph))
    assert (finding.state, finding.severity, finding.evidence["norms_between_skips"]) == ("found", "info", 3)
    assert judge("SG007", Measurements(graph, losses=losses([2.3] * 30))).severity == "warning"
    learned = judge("SG007", Measurements(graph, losses=losses([2.3 * 0.9**t for t in range(30)])))
    assert (learned.severity, learned.remedies) == ("info", ())


@pytest.mark.parametrize("trunk", [("rms_norm",), ("pow", "mean", "add", "rsqrt", "mul"), ("dropout", "layer_norm")])
def test_other_norms(trunk):
    assert judge("SG007", Measurements(residual_graph(4, trunk=trunk))).evidence["norms_between_skips"] == 3


def test_one_norm_is_a_hint():
    graph = residual_graph(2, trunk=("layer_norm",))
    assert judge("SG007", Measurements(graph)).severity == "info"


def test_post_activation_is_a_hint():
    finding = judge("SG007", Measurements(residual_graph(9, trunk=("relu",))))
    assert (finding.state, finding.severity) == ("found", "info")
    assert finding.remedies == ()


def test_scaled_shortcuts_multiply():
    finding = judge("SG007", measured(residual_graph(9, shortcut="scaled"), shortcut=0.5))
    assert (finding.state, finding.severity) == ("found", "warning")
    assert finding.evidence["shortcut_product"] == pytest.approx(0.5**9, rel=1e-4)


def test_a_scale_of_nearly_one_is_clean():
    assert judge("SG007", measured(residual_graph(9, shortcut="scaled"), shortcut=0.99)).state == "passed"
    assert judge("SG007", Measurements(residual_graph(9, shortcut="scaled"))).severity == "info"


def test_highway_gates_count_as_scales():
    assert judge("SG007", measured(residual_graph(9, kind="gate"), shortcut=0.5)).severity == "warning"


def test_projections_only_where_the_shape_does_not_ask_for_them():
    finding = judge("SG007", Measurements(residual_graph(9, shortcut="projection")))
    assert (finding.state, finding.severity) == ("found", "warning")
    assert finding.evidence["unneeded_projections"] == 9
    needed = residual_graph(9, shortcut="projection", fork_shape=(8, 8, 8, 8))
    assert judge("SG007", Measurements(needed)).state == "passed"


def test_a_transition_between_stages_may_be_normed():
    graph = residual_graph(9, trunk=("layer_norm", "conv2d"))
    assert judge("SG007", Measurements(graph)).state == "passed"
    # The same when only the shape tells.
    skips = [dataclasses.replace(s, fork_shape=(8, 2 * i, 8, 8)) for i, s in enumerate(residual_graph(9).skips)]
    skips = [dataclasses.replace(s, trunk=("layer_norm",)) for s in skips if s.fork_shape != s.merge_shape]
    assert judge("SG007", Measurements(SkipGraph(tuple(skips)))).state == "passed"


def test_long_and_concat_skips_are_not_its_business():
    assert judge("SG007", Measurements(SkipGraph((skip("u", 0, 5, long=True),)))).state == "not applicable"
    assert judge("SG007", Measurements(SkipGraph((skip("d", 0, 5, kind="concat"),)))).state == "not applicable"


def test_healthy():
    finding = judge("SG007", healthy_residual())
    assert finding.state == "passed"
    assert finding.evidence["shortcut_product"] == pytest.approx(1, rel=1e-4)


def test_skips_inside_a_branch_are_no_links_of_the_chain():
    # LoRA beside a projection: its fork lies behind the block's norm, its base layer is the shortcut.
    blocks, previous = [], None
    for i in range(4):
        start = 1 + 4 * i
        inner = skip(f"b{i}.lora", start, start + 2, shortcut="projection", previous=previous, trunk=("layer_norm",))
        outer = skip(f"b{i}", start, start + 4, long=True, previous=previous)
        blocks += [inner, outer]
        previous = outer.name
    assert judge("SG007", Measurements(SkipGraph(tuple(blocks), layers=layers(18)))).state == "passed"


def test_an_activation_in_place_is_said_to_overwrite_x():
    assert "overwritten" in judge("SG007", Measurements(residual_graph(9, trunk=("relu_",)))).prescription
    assert "overwritten" not in judge("SG007", Measurements(residual_graph(9, trunk=("relu",)))).prescription
