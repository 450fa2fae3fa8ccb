"""MLflow's local store, read back by its own client."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from skipgrad.core import OutputError, SkipRow

# Deprecations of what mlflow stands on (SQLAlchemy, alembic, pydantic), none of it about skipgrad.
pytestmark = [pytest.mark.filterwarnings("ignore:.*:Warning"), pytest.mark.slow]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what mlflow warns about on import is its own affair
    from mlflow.tracking import MlflowClient

    from skipgrad.writers.mlflow import NAMES, MlflowWriter


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests: laying out the tables takes seconds, and runs do not mix."""
    return tmp_path_factory.mktemp("mlflow")


def test_every_figure_reads_back(rows: Any, store: Path) -> None:
    with MlflowWriter(store, name="first", config={"model": "net", "versions": {"torch": "2"}}) as writer:
        writer(rows.skips, rows.layers, rows.losses[:1])
        writer([], [], rows.losses[1:])
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    run = client.get_run(writer.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert run.data.params == {"model": "net", "versions": "{'torch': '2'}"}

    def history(name: str) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in client.get_metric_history(writer.run_id, name))

    assert history("skip.skip_norm/layer1.0") == [(0, 1.1), (1, 1.1)]
    assert history("skip.branch_norm/the model itself") == [(0, 1e-60), (1, 1e-60)]
    assert history("skip.gain/layer1.0") == [(0, 1 / 3), (1, 1 / 3)]
    assert math.isnan(history("skip.skip_norm/broken")[0][1])
    assert history("skip.branch_norm/broken") == [(1, sys.float_info.max)]
    assert history("layer.update_norm/fc") == [(0, 0.01)]
    assert history("loss")[0] == (0, 2.5)
    assert math.isnan(history("loss")[1][1])
    legal = "skip.gain/odd _name__ with_all_2"
    assert history(legal) == [(0, 1 / 3), (1, 1 / 3)]
    assert run.data.tags[NAMES + legal] == 'skip.gain/odd "name", with\nall#2'


def test_names_that_differ_in_what_is_not_allowed_stay_apart(store: Path) -> None:
    two = [SkipRow(0, 0, name, size, 1, 1, 1, 0, 1, 1, 1, 0) for name, size in (("a#2", 3.0), ("a:2", 4.0))]
    with MlflowWriter(store) as writer:
        writer(two, [], [])
    metrics = MlflowClient(tracking_uri=writer.uri).get_run(writer.run_id).data.metrics
    assert (metrics["skip.skip_norm/a_2"], metrics["skip.skip_norm/a_2_2"]) == (3.0, 4.0)


def test_more_than_a_thousand_figures_in_a_step(store: Path) -> None:
    many = [SkipRow(0, 0, f"s{i}", i, 1, 1, 1, 0, 1, 1, 1, 0) for i in range(120)]
    with MlflowWriter(store) as writer:
        writer(many, [], [])
    metrics = MlflowClient(tracking_uri=writer.uri).get_run(writer.run_id).data.metrics
    assert len(metrics) == 1200
    assert metrics["skip.skip_norm/s119"] == 119


def test_a_folder_that_cannot_be_written(rows: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can be written"):
        MlflowWriter(tmp_path / "file" / "out")(rows.skips, [], [])


def test_a_missing_library_says_which_extra_to_install() -> None:
    code = """
import sys
sys.modules["mlflow"] = None
try:
    import skipgrad.writers.mlflow
except Exception as error:
    print(type(error).__name__, "skipgrad[mlflow]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MissingExtra", "True"]
