import subprocess
import sys

import pytest

from diagnosis.rows import healthy_residual, residual_graph
from skipgrad.core import BadInput, Measurements, Run, RunFileError, Trial, UnknownName
from skipgrad.diagnosis import CHECKS, diagnose, explain


class Source:
    def __init__(self, answer):
        self.answer = answer

    def measurements(self):
        return self.answer


def test_one_finding_per_check_in_order():
    assert [f.code for f in diagnose(healthy_residual())] == sorted(CHECKS)


def test_measurements_and_anything_that_has_them_say_the_same():
    measured = healthy_residual()
    assert diagnose(Source(measured)) == diagnose(measured)


def test_a_run_is_a_source():
    measured = healthy_residual()
    run = Run(
        {},
        measured.graph,
        (Trial(0, None, 0.1, 0, 10, measured=True),),
        measured.losses,
        {0: measured.skips},
        {0: measured.layers},
        paths={0: measured.paths},
        changes={0: measured.changes},
    )
    assert diagnose(run) == diagnose(measured)


def test_a_path_is_a_source(tmp_path):
    store = pytest.importorskip("skipgrad.store")
    measured = healthy_residual()
    with store.RunWriter.create(tmp_path / "run.sg", {"model": "m"}) as writer:
        writer.graph(measured.graph)
        writer.trial(Trial(0, None, 0.1, 0, 10, measured=True))
        writer.losses(measured.losses)
        writer.skip_rows(0, measured.skips)
        writer.layer_rows(0, measured.layers)
        writer.paths(0, measured.paths)
        writer.changes(0, measured.changes)
        writer.commit()
    assert diagnose(tmp_path / "run.sg") == diagnose(str(tmp_path / "run.sg")) == diagnose(measured)


def test_a_missing_path_is_a_run_file_error(tmp_path):
    with pytest.raises(RunFileError):
        diagnose(tmp_path / "nothing.sg")


@pytest.mark.parametrize("source", [3, None, residual_graph(2), Source(None), [healthy_residual()]])
def test_another_source_is_bad_input(source):
    with pytest.raises(BadInput, match="pass a ledger"):
        diagnose(source)


def test_explain():
    assert "first layers" in explain("SG001")
    with pytest.raises(UnknownName, match="did you mean SG0"):
        explain("SG00")


def test_no_torch_and_no_table_library_is_loaded():
    code = "import sys, skipgrad.diagnosis; print([m for m in ('torch', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_empty_measurements():
    assert "found" not in {f.state for f in diagnose(Measurements(residual_graph(0)))}
