"""How many CPUs a process may use, from faked files; and from the real ones where a quota can be set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skipgrad.instrument import cpus
from skipgrad.instrument.cpus import allowed_cpus, cpu_quota

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture(autouse=True)
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "runnable_cpus", lambda: 64)


def fake(root: Path, cgroup: str, mounts: str | None, **files: str) -> Path:
    """A machine: `files` by path below /sys/fs/cgroup, with __ for a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    if mounts is not None:
        (root / "proc/self/mountinfo").write_text(mounts)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path = path.with_name(path.name.replace("cpu_max", "cpu.max").replace("cfs_", "cpu.cfs_"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("max 100000\n", 64),
        ("max\n", 64),
        ("9900000 100000\n", 64),
        ("", 64),
        ("two of them\n", 64),
        ("200000\n", 64),
        ("200000 0\n", 64),
        ("-1 100000\n", 64),
        ("200000 100000 3\n", 64),
    ],
)
def test_version_2(tmp_path: Path, text: str, allowed: int) -> None:
    assert allowed_cpus(fake(tmp_path, "0::/\n", V2, cpu_max=text)) == allowed


@pytest.mark.parametrize(
    ("quota", "period", "allowed"),
    [("300000", "100000", 3), ("-1", "100000", 64), ("x", "100000", 64), ("50000", "", 64), ("250000", "100000", 3)],
)
@pytest.mark.parametrize("mounts", [V1, None], ids=["mountinfo", "the usual places"])
def test_version_1(tmp_path: Path, quota: str, period: str, allowed: int, mounts: str | None) -> None:
    files = {"cpu,cpuacct__cfs_quota_us": quota, "cpu,cpuacct__cfs_period_us": period}
    assert allowed_cpus(fake(tmp_path, "4:memory:/a\n3:cpu,cpuacct:/\n", mounts, **files)) == allowed


def test_the_smallest_quota_of_all_cgroups_above_wins(tmp_path: Path) -> None:
    files = {"cpu_max": "max 100000", "a__cpu_max": "300000 100000", "a__b__cpu_max": "800000 100000"}
    assert cpu_quota(fake(tmp_path, "0::/a/b\n", V2, **files)) == 3
    (tmp_path / "sys/fs/cgroup/a/b/cpu.max").write_text("100000 100000")
    assert cpu_quota(tmp_path) == 1
    # A neighbour's does not bind.
    (tmp_path / "sys/fs/cgroup/a/c").mkdir()
    (tmp_path / "sys/fs/cgroup/a/c/cpu.max").write_text("1000 100000")
    assert cpu_quota(tmp_path) == 1


def test_nested_version_1_and_both_versions_at_once(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct__cfs_quota_us": "-1",
        "cpu,cpuacct__cfs_period_us": "100000",
        "cpu,cpuacct__docker__x__cfs_quota_us": "500000",
        "cpu,cpuacct__docker__x__cfs_period_us": "100000",
        "unified__cpu_max": "400000 100000",
    }
    mounts = f"{V1}\n{V2.replace('/sys/fs/cgroup', '/sys/fs/cgroup/unified')}\n"
    fake(tmp_path, "3:cpu,cpuacct:/docker/x\n2:cpuset:/y\n0::/\n", mounts, **files)
    assert cpu_quota(tmp_path) == 4
    (tmp_path / "sys/fs/cgroup/unified/cpu.max").unlink()
    assert cpu_quota(tmp_path) == 5


def test_a_container_sees_a_part_of_the_hierarchy(tmp_path: Path) -> None:
    mounts = V2.replace(" / /sys", " /docker/x /sys")
    fake(tmp_path, "0::/docker/x/inner\n", mounts, cpu_max="700000 100000", inner__cpu_max="600000 100000")
    assert cpu_quota(tmp_path) == 6
    # Of a path outside of what is mounted, only the top is known.
    for path in ("/docker/y/inner", "/../inner", "/"):
        (tmp_path / "proc/self/cgroup").write_text(f"0::{path}\n")
        assert cpu_quota(tmp_path) == 7


def test_broken_and_missing_files_set_no_quota(tmp_path: Path) -> None:
    assert allowed_cpus(tmp_path) == 64
    fake(tmp_path, "nonsense\n::\n0::/\n7:cpu\n", "1 2\n\n - \nx - cgroup2", cpu_max="max 100000")
    assert allowed_cpus(tmp_path) == 64
    (tmp_path / "sys/fs/cgroup/cpu.max").unlink()
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir()
    assert allowed_cpus(tmp_path) == 64


def test_a_mount_with_a_space_in_its_name(tmp_path: Path) -> None:
    fake(tmp_path, "0::/\n", V2.replace("/sys/fs/cgroup", r"/my\040groups"))
    (tmp_path / "my groups").mkdir()
    (tmp_path / "my groups/cpu.max").write_text("200000 100000")
    assert allowed_cpus(tmp_path) == 2


def test_fewer_cpus_to_run_on_than_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "runnable_cpus", lambda: 3)
    assert allowed_cpus(fake(tmp_path, "0::/\n", V2, cpu_max="800000 100000")) == 3


ASK = "from skipgrad.instrument.cpus import allowed_cpus; print(allowed_cpus())"


def asked(before: str = "") -> int:
    done = subprocess.run([sys.executable, "-c", before + ASK], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_a_real_affinity_mask() -> None:
    one = min(os.sched_getaffinity(0))
    assert asked(f"import os; os.sched_setaffinity(0, {{{one}}}); ") == 1


def real_cgroup() -> Path | None:
    """A fresh cgroup with a quota of half a CPU, where this process may make one."""
    for top, files in (
        ("/sys/fs/cgroup", {"cpu.max": "50000 100000"}),
        ("/sys/fs/cgroup/cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}),
    ):
        folder = Path(top) / f"skipgrad-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            for name, text in files.items():
                if not (folder / name).exists():
                    raise FileNotFoundError(name)
                (folder / name).write_text(text)
        except OSError:
            folder.rmdir()
            continue
        return folder
    return None


def test_a_real_quota() -> None:
    folder = real_cgroup()
    if folder is None:
        pytest.skip("no right to make a cgroup with a quota of its own; run as root outside of a container")
    try:
        join = f"import os; open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid())); "
        assert asked(join) == 1
        assert asked(join + "from skipgrad.instrument.cpus import cpu_quota; assert cpu_quota() == 0.5; ") == 1
    finally:
        folder.rmdir()


def test_it_needs_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {ASK}; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout.split()[1] == "False"
