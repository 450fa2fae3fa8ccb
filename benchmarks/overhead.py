"""What a watch costs: a training step with the ledger on, or with a peer, against one without; and memory.

    python benchmarks/overhead.py [--models NET …] [--variants GROUP …] [--compiled] [--memory] [--rounds 15]
        [--threads 1] [--device cpu|cuda] [--python-for-peer GROUP=PYTHON] [--once] [--smoke] [--json] [--out FILE]

Nets: resnet20, resnet50 (torchvision), vit-s (timm), gpt2 (transformers); resnet50-2 and gpt2-1, the same with a
smaller batch. Groups of variants: ``ledger`` (every step, every 10th, every step without the layers), ``hooks``
(register_full_backward_hook), ``torchlens-watch``, ``torchlens-trace``, ``wandb``, ``cockpit``; with ``--compiled`` the
ledger again, on models under torch.compile; ``budget`` and ``budget-compiled``, the ledger as it comes, rounds of 50
steps in a row. The optimizer is SGD with momentum.

Each group has a fresh process for each net, because torchlens puts functions of its own in the place of torch's for
good, wandb starts a service beside the process and cockpit extends modules: nobody else is to pay for that. Each has
a plain step of its own, and the same once more as ``plain again``: what that row shows is the noise. What such a peer
does to every step in its process is in its plain step too: compare the plain steps of the groups. In a round every
variant takes a step, in an order shuffled anew; in the ledger's groups ten, so that a round of ``every 10th`` holds
its one measured step.

Printed per variant: the median time of a step; median and quartiles of its ratio to the plain step of the same round;
the ratio of the two lower quartiles and of the two shortest times, which what others do on the machine distorts less;
that of all rounds together; the median ratio of the processor's seconds of this process; whether the goal is met
(``met`` or ``missed`` when the 95 % interval of the median lies on one side of it, ``open`` when not, or below six
rounds); what it measured. A peer that is not installed, or fails on a net, is printed with its error.

Peers are no dependencies of skipgrad: ``pip install torchlens wandb cockpit-for-pytorch``. cockpit wants old packages;
``--python-for-peer cockpit=/there/bin/python`` names the interpreter of an environment of its own.

``--memory``: the peak over four steps, model and first step included, a fresh process for each figure. ``tensors`` is
of the live bytes of torch's tensors, exactly, from its allocator; ``process`` is what the kernel saw resident, three
times, the median; it holds the interpreter, the libraries and the gaps of the C library's heap. Eager mode only. On a
GPU ``tensors`` is torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import machine, versions
from overhead_groups import GROUPS
from overhead_nets import NETS, SIZES
from overhead_table import memory_table, times_table

_JOB = Path(__file__).with_name("overhead_job.py")
_MEMORY_GOAL = 1.02
_MEMORY_STEPS = 4
_RESIDENT_TIMES = 3


def answer(job: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """What a fresh process says to a job; ``{"died": why}`` when it said nothing."""
    python = dict(given.python_for_peer).get(job["group"], sys.executable)
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        threads = str(given.threads)
        env = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "MPLBACKEND": "Agg",
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
            **{f"WANDB_{name}": folder for name in ("DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "ARTIFACT_DIR")},
        }
        command = [python, str(_JOB), json.dumps(job)]
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=given.timeout)
        except subprocess.TimeoutExpired:
            return {"died": f"took longer than {given.timeout:g} s"}
        except OSError as error:
            return {"died": f"{python}: {error.strerror}"}
    if done.returncode or not done.stdout:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"died": f"its process ended with {done.returncode}: {last[:110]}"}
    return json.loads(done.stdout.splitlines()[-1])


def common(given: argparse.Namespace) -> dict[str, Any]:
    """What all jobs have in common."""
    asked = {"smoke": given.smoke, "device": given.device, "threads": given.threads, "rounds": given.rounds}
    return {**asked, "again": not given.once}


def times_of(net: str, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The groups' answers for one net, by the name of the group."""
    groups = list(given.variants) + ["compiled"] * given.compiled
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        say(f"{net}: {group}")
        got = answer({**common(given), "net": net, "group": group, "memory": ""}, given)
        found[group] = {"rows": [], "failed": {"all": got["died"]}} if "died" in got else got
    return found


def memory_of(net: str, names: dict[str, list[str]], given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The memory of each variant of one net, by the name of the variant; plain once.

    Args:
        net: which.
        names: the variants of each group.
        given: the command line.
    """
    asked = {variant: group for group, variants in names.items() for variant in variants if variant != "plain again"}
    rows: dict[str, dict[str, Any]] = {}
    for variant, group in asked.items():
        say(f"{net}: memory of {variant}")
        job = {**common(given), "net": net, "group": group, "variant": variant, "steps": _MEMORY_STEPS}
        kinds = ["live"] + ["resident"] * (0 if given.device.startswith("cuda") else _RESIDENT_TIMES)
        got: list[dict[str, Any]] = []
        for kind in kinds:
            got.append(answer({**job, "memory": kind}, given))
            if "bytes" not in got[-1]:
                break
        why = next((g[key] for g in got for key in ("failed", "died") if key in g), None)
        if why is not None:
            rows[variant] = {"failed": why}
        elif all(got):  # empty: not a variant of its own on this net
            rows[variant] = {
                "live": got[0]["bytes"],
                "resident": [g["bytes"] for g in got[1:]],
                "before": [g["before"] for g in got[1:]],
            }
    return rows


def say(text: str) -> None:
    """A line of progress, which is no part of the result."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def load() -> str:
    """The load averages, where the system has them."""
    return ", ".join(f"{v:.1f}" for v in os.getloadavg()) if hasattr(os, "getloadavg") else "not known"


def report(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"# {result['command']}", f"# {result['machine']}", f"# {result['versions']}", f"# {result['settings']}"]
    for net in result["nets"].values():
        if net["times"]:
            lines += ["", *times_table(net["words"], net["times"], result["device"] == "cpu")]
    if any(net["memory"] for net in result["nets"].values()):
        lines += ["", "peak memory"]
        for net in result["nets"].values():
            lines += memory_table(net["words"], net["memory"], _MEMORY_GOAL)
    starts, rounds = (sum(seconds(result, key)) for key in ("start_s", "rounds_s"))
    lines += [
        "",
        f"# {result['seconds'] / 60:.1f} min in all: {starts / 60:.1f} min of it to build, compile and warm up, "
        f"{rounds / 60:.1f} min for {result['rounds']} rounds; load averages before {result['load'][0]}; "
        f"after {result['load'][1]}",
    ]
    return "\n".join(lines)


def seconds(result: dict[str, Any], key: str) -> Iterator[float]:
    """One of the processes' own times, all groups of all nets."""
    for net in result["nets"].values():
        for group in net["times"].values():
            yield group.get(key, 0.0)


def peer_python(text: str) -> tuple[str, str]:
    """``GROUP=PYTHON`` as a pair."""
    group, _, python = text.partition("=")
    if not group or not python:
        raise argparse.ArgumentTypeError(f"{text!r}: give GROUP=PYTHON, such as cockpit=/there/bin/python")
    return group, python


def at_least(least: int) -> Callable[[str], int]:
    """Reads a whole number from `least` on."""

    def read(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least {least}")
        return int(text)

    return read


def main() -> None:
    peers = [name for name in GROUPS if name not in ("compiled", "budget", "budget-compiled")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(NETS), default=list(SIZES), metavar="NET")
    parser.add_argument(
        "--variants", nargs="*", choices=[*peers, "budget", "budget-compiled"], default=peers, metavar="GROUP"
    )
    parser.add_argument("--compiled", action="store_true", help="the ledger on models under torch.compile, too")
    parser.add_argument("--memory", action="store_true", help="peak memory, too")
    parser.add_argument("--rounds", type=at_least(0), default=15, help="0 with --memory: no times")
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--python-for-peer", type=peer_python, action="append", default=[], metavar="GROUP=PYTHON")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds a group may take on one net")
    parser.add_argument("--once", action="store_true", help="without a second plain step, which shows the noise")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--json", action="store_true", help="the seconds of every round as one JSON object")
    parser.add_argument("--out", type=Path, help="writes the table to this file")
    given = parser.parse_args()
    for group, _ in given.python_for_peer:
        if group not in peers:
            parser.error(f"--python-for-peer {group}=…: there is no such group; there are {', '.join(peers)}")
    if not given.rounds and not given.memory:
        parser.error("--rounds 0 leaves nothing to do without --memory")
    begun, before = time.perf_counter(), load()
    nets = {}
    for name in given.models:
        net = NETS[name]
        nets[name] = {
            "words": f"{name}: {net.smoke if given.smoke else net.words}",
            "times": times_of(name, given) if given.rounds else {},
            "memory": memory_of(name, {g: list(GROUPS[g].variants) for g in given.variants}, given)
            if given.memory
            else {},
        }
    devices = {group["device"] for net in nets.values() for group in net["times"].values() if "device" in group}
    device = ", ".join(sorted(devices)) or given.device
    words = f"{given.threads} thread{'s' * (given.threads > 1)}, {given.rounds} rounds, device {device}"
    result = {
        "command": shlex.join(["python", "benchmarks/overhead.py", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions("torch", "torchvision", "timm", "transformers"),
        "settings": words + ("; smoke sizes: no result" if given.smoke else ""),
        "device": given.device.partition(":")[0],
        "rounds": given.rounds,
        "nets": nets,
        "seconds": time.perf_counter() - begun,
        "load": [before, load()],
    }
    table = report(result)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(table + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1) if given.json else table)


if __name__ == "__main__":
    main()
