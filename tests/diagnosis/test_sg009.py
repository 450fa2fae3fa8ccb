import dataclasses
import math

import pytest

from diagnosis.rows import healthy_residual, judge, residual_graph, skip_rows
from skipgrad.core import Measurements, SkipGraph


def net(x, blocks: int = 24, graph: SkipGraph | None = None) -> Measurements:
    graph = graph or residual_graph(blocks)
    return Measurements(graph, skip_rows([s.name for s in graph.skips], lambda t, i: {"x_rms": x(i)}))


def test_he_init_without_norm():
    finding = judge("SG009", net(lambda i: math.sqrt(2) ** i, 27))
    assert (finding.state, finding.severity) == ("found", "error")
    assert finding.evidence["growth_per_block"] == pytest.approx(math.sqrt(2), rel=1e-4)
    assert finding.evidence["second_half_growth"] == pytest.approx(2**6.5, rel=1e-4)
    assert finding.where[0] == "b26"
    assert finding.remedies[0] == "zero-init"


def test_milder_growth_is_a_warning():
    assert judge("SG009", net(lambda i: 1.2**i)).severity == "warning"


@pytest.mark.parametrize("start", [1.0, 0.02, 1e-6])
def test_healthy_growth_passes_however_small_the_embedding(start):
    # Independent branches of equal size, and branches that all point the same way.
    assert judge("SG009", net(lambda i: math.sqrt(start**2 + i))).state == "passed"
    assert judge("SG009", net(lambda i: start + i)).state == "passed"


def test_a_jump_in_the_first_half_is_not_growth_with_depth():
    assert judge("SG009", net(lambda i: 1.0 if i < 3 else 500.0)).state == "passed"


def test_growth_within_one_stage_is_found():
    graph = residual_graph(20)
    skips = [dataclasses.replace(s, fork_shape=(8, 32, 4, 4)) if i >= 12 else s for i, s in enumerate(graph.skips)]
    finding = judge("SG009", net(lambda i: 2.0**i if i < 12 else 1.0, 20, SkipGraph(tuple(skips))))
    assert finding.state == "found"
    assert finding.evidence["blocks"] == 12


def test_short_runs_do_not_apply_and_unmeasured_is_skipped():
    assert judge("SG009", net(lambda i: 2.0**i, 5)).state == "not applicable"
    assert judge("SG009", Measurements(residual_graph(9))).state == "skipped"


def test_skips_that_do_not_follow_each_other_are_no_run():
    graph = residual_graph(9)
    loose = SkipGraph(tuple(dataclasses.replace(s, previous=None) for s in graph.skips))
    assert judge("SG009", net(lambda i: 2.0**i, 9, loose)).state == "not applicable"


def test_healthy():
    assert judge("SG009", healthy_residual()).state == "passed"
