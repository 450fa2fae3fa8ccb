"""Where the tests keep compiled code: a folder for each processor and setting of its vector units."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

# What decides which vector units torch and the libraries below it use.
VECTOR_UNITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Compiled kernels of one processor and setting: loaded under another they end the process."""
    flags = next((f for f in _lines(Path("/proc/cpuinfo")) if f.startswith(("flags", "Features"))), "")
    settings = [f"{name}={environ.get(name, '')}" for name in VECTOR_UNITS]
    said = "\n".join([torch.__version__, torch.backends.cpu.get_cpu_capability(), flags, *settings])
    key = f"skipgrad-tests-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    given = environ.get("TORCHINDUCTOR_CACHE_DIR")
    base = Path(given) if given else Path(tempfile.gettempdir()) / f"torchinductor-{os.getuid()}"
    return base if base.name == key else base / key  # a worker of xdist has it from the process that started it


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
