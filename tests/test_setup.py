"""What the tests set up for themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compiled_cache import VECTOR_UNITS, cache_folder
from skip_hints import hint


def test_each_setting_of_the_vector_units_has_a_cache_of_its_own(tmp_path: Path) -> None:
    plain = cache_folder({})
    assert cache_folder({}) == plain
    folders = {cache_folder({name: value}) for name in VECTOR_UNITS for value in ("avx2", "sse")}
    assert len(folders | {plain}) == 2 * len(VECTOR_UNITS) + 1
    # A folder that was given is kept, and a worker's is that of the process that started it.
    given = cache_folder({"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)})
    assert (given.parent, given.name) == (tmp_path, plain.name)
    assert cache_folder({"TORCHINDUCTOR_CACHE_DIR": str(given)}) == given


def test_torch_uses_it() -> None:
    from torch._inductor.runtime.runtime_utils import cache_dir

    assert Path(cache_dir()).name.startswith("skipgrad-tests-")


def test_skips_are_listed_once_a_reason(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    (tmp_path / "conftest.py").write_text((tests / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('k', range(3))\n"
        "def test_drawing(k): pytest.skip('Graphviz is not installed')\n"
        "@pytest.mark.skipif(True, reason='some reason')\n"
        "def test_other(): pass\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": f"{tests}:{os.environ.get('PYTHONPATH', '')}", "PYTEST_ADDOPTS": ""}
    out = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=env).stdout
    assert out.count("Graphviz is not installed") == 1
    assert f"3 × Graphviz is not installed – {hint('Graphviz')}" in out
    assert "1 × some reason\n" in out


@pytest.mark.parametrize(
    "reason", ["Graphviz is not installed", "/usr/bin/chromium is not there", "Ray is not installed"]
)
def test_a_reason_has_a_hint(reason: str) -> None:
    assert hint(reason)
