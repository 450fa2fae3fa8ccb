"""The sweep over whole libraries: nothing is lost when it is stopped, or when a worker dies or hangs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TROUBLE = """
import os, signal, time
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def hang():
    time.sleep(600)
def refuse():
    raise ValueError("three layers are too many")
"""


def command(results: Path, *words: str) -> list[str]:
    return [sys.executable, str(BENCHMARKS / "sweep.py"), "--results", str(results), "--json", *words]


def run(results: Path, *words: str) -> tuple[dict[str, Any], int]:
    done = subprocess.run(command(results, *words), capture_output=True, text=True, timeout=240)
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.returncode


def lines(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


@pytest.fixture
def trouble(tmp_path: Path) -> str:
    file = tmp_path / "trouble.py"
    file.write_text(TROUBLE)
    return str(file)


@pytest.mark.slow
def test_a_sweep_survives_its_workers_and_its_own_end(tmp_path: Path, trouble: str) -> None:
    results = tmp_path / "sweep.jsonl"
    good = ["skipgrad:resnet8", "skipgrad:plain8", "skipgrad:unet", "skipgrad:resnet14"]
    bad = [f"{trouble}:die", f"{trouble}:refuse", f"{trouble}:hang", "skipgrad:no_such_net"]
    names = [good[0], bad[0], good[1], bad[1], bad[2], good[2], bad[3], good[3]]
    words = ("--workers", "2", "--timeout", "20", *names)

    first = subprocess.Popen(command(results, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(lines(results)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    first.kill()
    first.wait()
    before = lines(results)
    assert 2 <= len(before) < len(names)
    with results.open("a") as file:
        file.write('{"ref": "skipgrad:un')  # what a kill in the middle of a line leaves

    summary, status = run(results, *words, "--at-least", "0.4")
    assert status == 0
    assert (summary["models"], summary["traced"]) == (8, 4)
    assert set(summary["failed"]) == set(bad)
    assert summary["failed"][bad[0]] == "the worker died (exit code -9)"
    assert "three layers are too many" in summary["failed"][bad[1]]
    assert summary["failed"][bad[2]] == "took longer than 20 s"
    assert "no_such_net" in summary["failed"][bad[3]]
    # A worker that died or hung decides nothing; a model that raises without find, too, is not find's to trace.
    assert summary["why"] == {bad[0]: "undecided", bad[1]: "model", bad[2]: "undecided", bad[3]: "model"}
    assert summary["classes"] == {"traced": 4, "library": 0, "model": 2, "find": 0, "undecided": 2}
    assert summary["share"] == 4 / 8
    assert summary["share_of_those_that_run"] == 4 / 6
    records = [json.loads(line) for line in results.read_text().splitlines() if line.endswith("}")]
    assert records[: len(before)] == before
    assert sorted(r["ref"] for r in records) == sorted(names)  # none lost, none run twice
    by_ref = {r["ref"]: r for r in records}
    resnet = by_ref["skipgrad:resnet8"]
    assert (resnet["add"], resnet["concat"], resnet["long"], resnet["how"]) == (3, 0, 0, "meta")
    assert by_ref["skipgrad:plain8"]["add"] == 0
    assert by_ref["skipgrad:unet"]["concat"] == by_ref["skipgrad:unet"]["long"] > 0
    assert resnet["ops"] > 20
    assert resnet["unknown"] == {}
    assert 0 < resnet["find_s"] < 30
    assert resnet["peak_bytes"] > 1e8

    # Everything is in the file: the answer comes at once, and the share decides on the exit status.
    again, status = run(results, *words, "--at-least", "0.67")
    assert again == summary
    assert status == 1
    assert len(results.read_text().splitlines()) == len(records) + 1


@pytest.mark.slow
def test_the_same_flag_names_a_ray_cluster(tmp_path: Path, trouble: str) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'skipgrad[ray]'")
    names = [f"{trouble}:die", "skipgrad:resnet8", f"{trouble}:refuse"]
    code = (
        "import sys, runpy, ray; ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = command(tmp_path / "ray.jsonl", "--workers", "ray", *names)
    env = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run([words[0], "-c", code, *words[1:]], capture_output=True, text=True, timeout=240, env=env)
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["models"], summary["traced"], summary["skips"]["add"]) == (3, 1, 3)
    assert summary["failed"][names[0]].startswith("the worker died")
    assert "three layers are too many" in summary["failed"][names[2]]


@pytest.mark.parametrize("spec", ["0", "-1", "many", "ray:/x"])
def test_a_wrong_number_of_workers_is_refused(tmp_path: Path, spec: str) -> None:
    words = command(tmp_path / "x", f"--workers={spec}", "a:b")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "a number of local processes, ray, or ray://HOST:PORT" in done.stderr


def test_a_family_is_a_stem_without_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = importlib.import_module("sweep_names")
    assert names.family_of("resnet50") == names.family_of("resnet152") == "resnet"
    assert names.family_of("vit_tiny_patch16_224") == names.family_of("vit_huge_patch14_clip_336") == "vit"
    assert len({names.family_of(n) for n in ("resnet50", "resnext50_32x4d", "vit_relpos_base", "convnextv2_atto")}) == 4
