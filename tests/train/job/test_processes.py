"""Two processes, started by torchrun, exchanging by gloo."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from skipgrad.store import read_run
from train.job.killing import command, finish

STEPS = ("--steps", "50", "--batch-size", "64", "--optimizer", "adamw")
pytestmark = pytest.mark.slow


def spread(words, many=2):
    """The same command in several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(many), "--master-port", str(port)]
    assert words[1:3] == ["-m", "skipgrad"]
    return [*run, *words[1:]]


def losses(out):
    return [p.loss for p in read_run(out / "run.sqlite").losses]


def plain(out, *more):
    words = command(out, *STEPS, *more)
    return [word.replace(":dropped", ":plain") for word in words]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_two_processes_give_the_loss_curve_of_one_at_the_whole_batch(tmp_path, strategy, accumulate):
    assert finish(plain(tmp_path / "one", "--accumulate", accumulate)).returncode == 0
    ran = finish(spread(plain(tmp_path / "two", "--strategy", strategy, "--accumulate", accumulate)))
    assert ran.returncode == 0, ran.stderr[-2000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 50
    assert max(abs(a - b) / abs(a) for a, b in zip(one, two, strict=True)) <= 1e-5
    a, b = (load_file(tmp_path / k / "last.safetensors") for k in ("one", "two"))
    assert a.keys() == b.keys()
    for name in a:
        assert float((a[name] - b[name]).abs().max()) < 1e-4, name


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_it_goes_on_with_another_number_of_processes(tmp_path, strategy):
    one = plain(tmp_path / "one", "--strategy", strategy)
    assert finish(one if strategy == "ddp" else spread(one, 1)).returncode == 0
    words = plain(tmp_path / "two", "--strategy", strategy)
    process = subprocess.Popen(spread(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = tmp_path / "two" / "checkpoint.safetensors"
    begin = time.monotonic()
    while not path.exists() and process.poll() is None and time.monotonic() - begin < 200:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    time.sleep(3)  # the processes below notice that their agent is gone
    ran = finish(words if strategy == "ddp" else spread(words, 1))
    if ran.returncode == 1 and "trains into it" in ran.stderr:
        time.sleep(20)
        ran = finish(words if strategy == "ddp" else spread(words, 1))
    assert ran.returncode == 0, ran.stderr[-2000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert max(abs(a - b) / abs(a) for a, b in zip(one, two, strict=True)) <= 1e-5


def test_a_lost_process_ends_the_others_with_a_message(tmp_path):
    words = [*plain(tmp_path / "out"), "--steps", "100000"]
    words = [w for k, w in enumerate(words) if not (w == "50" and words[k - 1] == "--steps")]
    words = [w for k, w in enumerate(words) if not (w == "--steps" and words[k + 1] != "100000")]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment["MASTER_PORT"] = str(free.getsockname()[1])
    both = [
        subprocess.Popen(
            words,
            env={**environment, "RANK": str(k), "LOCAL_RANK": str(k)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for k in range(2)
    ]
    path = tmp_path / "out" / "checkpoint.safetensors"
    begin = time.monotonic()
    while not path.exists() and time.monotonic() - begin < 200:
        time.sleep(0.05)
    both[1].kill()
    both[1].communicate(timeout=60)
    _, told = both[0].communicate(timeout=120)
    assert both[0].returncode == 1
    assert b"another process is gone" in told
    assert b"goes on from the last checkpoint" in told


def test_tasks_of_a_slurm_job_train_together(tmp_path):
    """The variables ``srun`` sets, without Slurm: Fabric reads nothing else of it."""
    assert finish(plain(tmp_path / "one")).returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
    }
    job |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1"}
    environment = {**os.environ, **job, "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            plain(tmp_path / "two"),
            env={**environment, "SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for k in range(2)
    ]
    told = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(two) == 50
    assert max(abs(a - b) / abs(a) for a, b in zip(one, two, strict=True)) <= 1e-5


def test_a_batch_that_the_processes_do_not_divide_is_refused(tmp_path):
    words = command(tmp_path / "out", "--steps", "5", "--batch-size", "63")
    ran = finish(spread(words))
    assert ran.returncode != 0
    assert "63 samples for 2 processes" in ran.stderr
