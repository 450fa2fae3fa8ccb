"""Jobs side by side: a worker that dies costs its job alone, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skipgrad.core import BadInput, MissingExtra
from skipgrad.race.spread import Processes, Ray, spread_of


def doubled(job: tuple[int, str]) -> int:
    """Tells that it began; number 1 kills its worker once the other job runs."""
    number, folder = job
    begun = Path(folder)
    many = len(list(begun.glob(f"{number}-*")))
    (begun / f"{number}-{many}").touch()
    if number == 1 and not many:
        while not list(begun.glob("0-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 0:  # runs when the other one's worker dies
        until = time.monotonic() + 60
        while not (begun / "1-1").exists() and time.monotonic() < until:
            time.sleep(0.01)
    return 2 * number


def dies(_job: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raises(_job: int) -> None:
    raise BadInput("working", received="nothing", todo="give it something")


def sleeps(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def test_a_worker_that_dies_costs_its_job_alone(tmp_path: Path):
    with Processes(2) as spread:
        assert spread.slots == 2
        found = dict(spread.run(doubled, {n: (n, str(tmp_path)) for n in range(3)}))
        assert found == {0: 0, 1: 2, 2: 4}
        # Number 0 was running in the other worker when number 1's died.
        assert sorted(p.name for p in tmp_path.iterdir()) == ["0-0", "1-0", "1-1", "2-0"]
        # What a job raises comes here as it was raised, and the workers serve on.
        with pytest.raises(BadInput) as caught:
            list(spread.run(raises, {"a": 1}))
        assert (caught.value.received, caught.value.todo) == ("nothing", "give it something")


def test_a_job_that_kills_every_worker_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skipgrad.race.spread.AGAIN", 1)
    with pytest.raises(BadInput, match="died 1 times"):
        list(Processes(1).run(dies, {"a": 0}))


def test_workers_end_with_their_parent(tmp_path: Path):
    code = (
        "from race.test_spread import sleeps\nfrom skipgrad.race.spread import Processes\n"
        f"if __name__ == '__main__': list(Processes(1).run(sleeps, {{0: {str(tmp_path)!r}}}))"
    )
    (tmp_path / "go.py").write_text(code)
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])])
    parent = subprocess.Popen([sys.executable, str(tmp_path / "go.py")], env={**os.environ, "PYTHONPATH": path})
    until = time.monotonic() + 60
    while not (pids := [int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()]) and time.monotonic() < until:
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    assert len(pids) == 1
    while _runs(pids[0]) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(pids[0])


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # ended and not yet waited for, by whoever inherits it
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_is_asked_for():
    assert spread_of(1, None) is None
    assert spread_of(3, None).slots == 3
    for bad in (lambda: Processes(0), lambda: Ray("local", 0)):
        with pytest.raises(BadInput, match="workers"):
            bad()


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"skipgrad\[ray\]"):
        spread_of(1, "local")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_ray_cluster_that_is_not_there_is_said_so(address: str):
    pytest.importorskip("ray")
    with pytest.raises(BadInput, match="ray start"):
        list(Ray(address).run(raises, {0: 0}))
