"""How long find takes: against its peers, on graphs of 10,000 ops, and on a net that no laptop could hold.

    python benchmarks/find.py [--rounds 9] [--only peers|matching|llama] [--mode train|eval]

Peers: torchlens (its log of a forward, no activations saved), torchview (its graph, not rendered) and torch.export.
torchlens and torchview are no dependencies of skipgrad; get them by ``pip install torchlens torchview graphviz``. One
that is missing is reported as missing.

Each tool lives in a process of its own, because torchlens and torchview wrap torch's functions for good; the processes
take turns, one call each in every round, in an order shuffled anew. Printed per tool: median and quartiles of its
seconds, the median of its ratio to skipgrad's in the same round, and what the call gives. A tool gets the model without
memory (meta device) where it can run that, else the real one; skipgrad is timed on both.
"""
# ruff: noqa: E402 - the clock starts before torch is imported: a fresh process pays for that too

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from machine import machine, peak_bytes, versions
from torch import nn

import skipgrad as sg
from skipgrad.models import resolve_model

SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "torchvision resnet50": ("torchvision:resnet50", {}),
    "torchvision densenet121": ("torchvision:densenet121", {}),
    "transformers GPT-2, default": ("transformers:gpt2", {}),
    "smp Unet(resnet34)": ("smp:Unet", {"encoder_name": "resnet34"}),
}
# Where a peer cannot take the model as it comes: torch.export knows no key-value cache as an output.
ADAPTED = {("torch.export", "transformers GPT-2, default"): {"use_cache": False}}
LLAMA = {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}


# -- peers: each takes a model, its inputs and the device, and says what it found ----------------------------------


def _skipgrad(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> Callable[[], str]:
    graph = sg.find(model, *args, **kwargs)
    return lambda: f"{len(graph)} skips, {len(graph.others)} other merges, traced on {graph.how} tensors"


def _torchlens(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> Callable[[], str]:
    import torchlens
    from torchlens.options import CaptureOptions

    cheapest = CaptureOptions(inference_only=True, recurrence_detection=False, compute_input_output_distances=False)
    log = torchlens.trace(model, args, kwargs, save=None, capture=cheapest)

    def given() -> str:
        merges = [op for op in log.ops if len(op.parents) > 1 and _merges(op.func_name)]
        return f"{len(log.ops)} ops, {len(merges)} adds and concats of several"

    return given


def _torchview(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> Callable[[], str]:
    import torchview

    # Its dicts are keyword arguments; its sequences are positional ones.
    data = next(iter(kwargs.values())) if len(kwargs) == 1 and not args else kwargs or args
    mode = "train" if model.training else "eval"
    graph = torchview.draw_graph(model, input_data=data, device=device, mode=mode)

    def given() -> str:
        fan_in: dict[int, int] = {}
        for _, head in graph.edge_list:
            fan_in[id(head)] = fan_in.get(id(head), 0) + 1
        heads = {id(head): head for _, head in graph.edge_list}
        merges = [n for n in heads.values() if fan_in[id(n)] > 1 and _merges(n.name)]
        return f"{len(graph.node_set)} nodes, {len(merges)} adds and concats of several"

    return given


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> Callable[[], str]:
    program = torch.export.export(model, args, kwargs)

    def given() -> str:
        nodes = [n for n in program.graph.nodes if n.op == "call_function"]
        merges = [n for n in nodes if len(n.all_input_nodes) > 1 and _merges(str(n.target).split(".")[1])]
        return f"{len(nodes)} ops, {len(merges)} adds and concats of several"

    return given


def _merges(name: str | None) -> bool:
    return (name or "").lower().strip("_") in ("add", "iadd", "radd", "cat", "concat", "concatenate")


# name: (call, devices to try in turn)
TOOLS: dict[str, tuple[Callable[..., Callable[[], str]], tuple[str, ...]]] = {
    "skipgrad": (_skipgrad, ("meta",)),
    "skipgrad, real model": (_skipgrad, ("cpu",)),
    "torchlens": (_torchlens, ("meta", "cpu")),
    "torchview": (_torchview, ("meta", "cpu")),
    "torch.export": (_export, ("meta", "cpu")),
}


def serve(tool: str, mode: str) -> None:
    """A tool's process: builds what stdin names, then answers each "go" with the seconds one call took."""
    call, devices = TOOLS[tool]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is no answer

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")

    for line in sys.stdin:
        subject = line.strip()
        reasons: list[str] = []
        ready: Any = None
        given = ""
        for device in devices:
            try:
                name, given_args = SUBJECTS[subject]
                source = resolve_model(name, {**given_args, **ADAPTED.get((tool, subject), {})})
                with torch.device(device):
                    model = source.build()
                model.train(mode == "train")
                args, kwargs = source.example(None, device)
                given = call(model, args, kwargs, device)()
                call(model, args, kwargs, device)
                ready = (model, args, kwargs, device)
                break
            except ModuleNotFoundError as error:
                reasons.append(f"missing ({error})")
                break
            except Exception as error:  # noqa: BLE001 - a peer's own failure is a result of this benchmark
                first = (str(error).strip().splitlines() or ["no message"])[0][:100]
                reasons.append(f"fails on {device}: {type(error).__name__}: {first}")
        answer([f"{given} ({'no memory' if device == 'meta' else 'real model'})" if ready else "", reasons])
        while ready and sys.stdin.readline().strip() == "go":
            start = time.perf_counter()
            call(*ready)
            answer(time.perf_counter() - start)


class Process:
    """The process a tool lives in: torchlens and torchview wrap torch's functions, which would slow the others."""

    def __init__(self, tool: str, mode: str) -> None:
        command = [sys.executable, __file__, "--serve", tool, "--mode", mode]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def tell(self, line: str) -> None:
        """One line to the process."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> Any:
        """One line to the process, and its answer."""
        self.tell(line)
        assert self.process.stdout is not None
        got = self.process.stdout.readline()
        if not got:
            raise SystemExit(f"the process of {self.process.args} ended with {self.process.wait()}")
        return json.loads(got)


def peers(rounds: int, mode: str) -> None:
    """Prints the interleaved times of all tools on all subjects."""
    print(f"\npeers: one call, seconds, median [quartiles] of {rounds} rounds; models in {mode} mode")
    processes = {tool: Process(tool, mode) for tool in TOOLS}
    shuffle = random.Random(0)
    for subject in SUBJECTS:
        print(subject)
        told: dict[str, str] = {}
        for tool, process in processes.items():
            said, reasons = process.ask(subject)
            if said:
                told[tool] = "; ".join([said, *reasons])
            else:
                print(f"  {tool:22s} {'; '.join(reasons)}")
        times: dict[str, list[float]] = {tool: [] for tool in told}
        for _ in range(rounds):
            for tool in shuffle.sample(list(told), len(told)):
                times[tool].append(processes[tool].ask("go"))
        for tool, values in times.items():
            processes[tool].tell("enough")
            ours = times.get("skipgrad")
            ratio = statistics.median(b / a for a, b in zip(ours, values, strict=True)) if ours else float("nan")
            print(f"  {tool:22s} {spread(values)}  {ratio:6.2f}x  {told[tool]}", flush=True)
    for process in processes.values():
        process.process.communicate(timeout=60)


def spread(values: list[float]) -> str:
    """``median [lower quartile-upper quartile]``."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{middle:.3f} [{low:.3f}-{high:.3f}]"


# -- matching ------------------------------------------------------------------------------------------------------


class Shape(nn.Module):
    """A net of about ``ops`` calls whose graph has one shape; tiny tensors, so that only the graph counts."""

    def __init__(self, ops: int) -> None:
        super().__init__()
        self.ops = ops
        self.f = nn.Linear(4, 4)

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """Three calls, one of them weighted."""
        return torch.tanh(self.f(torch.relu(x)))


class Chain(Shape):
    """x + F(x), again and again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.ops // 4):
            x = x + self.branch(x)
        return x


class Dense(Shape):
    """cat of all that came before, in blocks of 32 as in DenseNet."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = 0
        while count < self.ops:
            grown = [x]
            for _ in range(32):
                grown.append(self.branch(torch.cat(grown, 0)[:1]))
            x = grown[-1]
            count += 32 * 5
        return x


class Growing(Shape):
    """One cat that grows to the end: m = cat(m, F(m)), never reset."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.ops // 5):
            x = torch.cat([x, self.branch(x[:1])], 0)
        return x


class Nested(Shape):
    """A U-Net as deep as the graph: level k's shortcut goes around all levels below it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = []
        for _ in range(self.ops // 7):
            held.append(x)
            x = self.branch(x)
        while held:
            x = self.branch(torch.cat([held.pop(), x], 0)[:1])
        return x


class Branches(Shape):
    """Blocks of sixteen branches added to their input in one sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.ops // 64):
            total = x
            for _ in range(16):
                total = total + self.branch(x)
            x = total
        return x


def matching(rounds: int, ops: int) -> None:
    """Prints the time of matching alone on synthetic graphs."""
    from skipgrad.finder.match import match

    print(f"\nmatching alone, graphs of about {ops} ops, seconds, median [quartiles] of {rounds} rounds")
    traces = {}
    for shape in (Chain, Dense, Growing, Nested, Branches):
        with torch.device("meta"):
            traces[shape] = sg.find(shape(ops), torch.zeros(1, 4)).found.trace
    times: dict[type[Shape], list[float]] = {shape: [] for shape in traces}
    found: dict[type[Shape], int] = {}
    for _ in range(rounds):
        for shape, trace in traces.items():
            start = time.perf_counter()
            matches, _ = match(trace)
            times[shape].append(time.perf_counter() - start)
            found[shape] = len(matches)
    for shape, values in times.items():
        nodes = len(traces[shape].nodes)
        print(f"  {shape.__name__:10s} {spread(values)}  {nodes} nodes, {found[shape]} skips", flush=True)


# -- a net that fits no memory ----------------------------------------------------------------------------------------


def llama(rounds: int) -> None:
    """Prints seconds and peak memory of find on a Llama of 80 layers of 8192, a fresh process each time."""
    print(f"\ntransformers Llama, 80 layers of 8192, a fresh process a time, {rounds} times")
    command = [sys.executable, __file__, "--llama-child"]
    rows = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(rounds)]
    for key, words in (("imports", "imports"), ("find", "build and find"), ("whole", "together")):
        print(f"  {words:15s} {spread([r[key] for r in rows])} s")
    peaks = [r["peak"] / 1e9 for r in rows]
    found = f"{rows[0]['skips']} skips, {rows[0]['parameters'] / 1e9:.1f} G weights"
    print(f"  {'peak memory':15s} {spread(peaks)} GB; {found}")


def llama_child(begun: float) -> None:
    """One find, its figures as JSON on stdout."""
    from skipgrad.finder import find_built

    warnings.simplefilter("ignore")
    source = resolve_model("transformers:llama", LLAMA)
    imported = time.perf_counter()
    counted: list[int] = []

    def make() -> nn.Module:
        model = source.build()
        counted.append(sum(p.numel() for p in model.parameters()))
        return model

    graph = find_built(make, lambda device: source.example(None, device))
    end = time.perf_counter()
    row = {"imports": imported - begun, "find": end - imported, "whole": end - begun, "peak": peak_bytes()}
    print(json.dumps({**row, "skips": len(graph), "parameters": counted[-1]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ops", type=int, default=10_000)
    parser.add_argument("--mode", choices=["train", "eval"], default="train")
    parser.add_argument("--only", choices=["peers", "matching", "llama"])
    parser.add_argument("--llama-child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.llama_child:
        llama_child(_BEGUN)
        return
    if given.serve:
        warnings.simplefilter("ignore")
        serve(given.serve, given.mode)
        return
    packages = ("torch", "torchvision", "transformers", "segmentation-models-pytorch", "torchlens", "torchview")
    print(f"{versions(*packages)}; {machine()}; 1 thread")
    if given.only in (None, "llama"):
        llama(min(given.rounds, 5))
    if given.only in (None, "matching"):
        matching(min(given.rounds, 5), given.ops)
    if given.only in (None, "peers"):
        peers(given.rounds, given.mode)


if __name__ == "__main__":
    main()
