"""Forms and retrofits in two processes, exchanging by gloo: DistributedDataParallel and ``fully_shard``."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.sharded_job import RETROFITS
from skipgrad.blocks.forms import FORMS


@pytest.mark.slow
def test_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    out = tmp_path / "off.json"
    job = Path(__file__).with_name("sharded_job.py")
    ran = subprocess.run([*run, str(job), str(out)], capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-3000:]
    off = json.loads(out.read_text())
    names = [f"form {n}" for n in FORMS] + [f"retrofit {n}" for n in RETROFITS]
    assert sorted(off) == sorted(f"{n} {how}" for n in names for how in ("ddp", "fsdp"))
    assert {n: told for n, told in off.items() if not isinstance(told, float) or told > 1e-10} == {}
