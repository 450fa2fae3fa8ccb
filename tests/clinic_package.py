"""Importing this makes ``import clinic`` find benchmarks/clinic, without benchmarks/ on the path: its train.py would
hide tests/train."""

import importlib.util
import sys
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "benchmarks" / "clinic"

if "clinic" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "clinic", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["clinic"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["clinic"])
