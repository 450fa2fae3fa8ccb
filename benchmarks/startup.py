"""How long a person waits: importing the package, the help, the report of a finished run, and a training of one step.

    python benchmarks/startup.py RUN [--runs 7]
    python benchmarks/startup.py --train [--runs 7]

Whole processes, one after another, the commands in turn; median, smallest and largest wall seconds. ``--train``: a
script as one writes it takes one step of torchvision's resnet18 on digits; `skipgrad train` does, too, and besides
finds the skips, evaluates, and writes run file and weights. The ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """
import torch, torchvision
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1) / 16
model = torchvision.models.resnet18(num_classes=10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for x, y in DataLoader(TensorDataset(images, torch.tensor(digits.target)), batch_size=32, shuffle=True):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    break
"""
TRAIN = [
    "train",
    "torchvision:resnet18",
    "--data",
    "digits",
    "--batch-size",
    "32",
    "--optimizer",
    "sgd",
    "--steps",
    "1",
    "--threads",
    "1",
]


# The process ends when the first step is told.
FIRST = """
import os, sys
from skipgrad.core.training import TrainingRecipe
from skipgrad.train.job import TrainOptions, train

def tell(stage, done, total, note):
    if stage == "training" and done >= 1:
        os._exit(0)

recipe = TrainingRecipe(batch_size=32, optimizer="sgd", lr=0.05, steps=50)
train(TrainOptions("torchvision:resnet18", "digits", sys.argv[1], recipe=recipe, threads=1), progress=tell)
"""


def training(runs: int) -> None:
    """One step, by a script and by `skipgrad train`."""
    times: dict[str, list[float]] = {}
    for round_ in range(runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            commands = {
                "a script, one step": [sys.executable, "-c", SCRIPT],
                "train(), to the first step": [sys.executable, "-c", FIRST, f"{folder}/first"],
                "skipgrad train, one step, whole": [
                    sys.executable,
                    "-m",
                    "skipgrad",
                    *TRAIN,
                    "--out",
                    f"{folder}/whole",
                ],
            }
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                if round_:
                    times.setdefault(name, []).append(time.perf_counter() - start)
    script = times["a script, one step"]
    for name, values in times.items():
        ratios = [b / a for a, b in zip(script, values, strict=True)]
        print(
            f"{name:32s} median {statistics.median(values):.3f} s [{min(values):.3f}-{max(values):.3f}]; "
            f"{statistics.median(ratios):.2f} of the script's [{min(ratios):.2f}-{max(ratios):.2f}]"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run file")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    if given.train:
        training(given.runs)
        return
    if given.run is None:
        parser.error("give a run file, or --train")
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "skipgrad"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import skipgrad'": [sys.executable, "-c", "import skipgrad"],
            "skipgrad --help": [*program, "--help"],
            "skipgrad report RUN": [*program, "report", given.run, "--out", str(Path(folder) / "page.html")],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(given.runs + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                if round_:  # the first round warms the caches
                    times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        print(f"{name:30s} median {statistics.median(values):.3f} s [{min(values):.3f}-{max(values):.3f}]")


if __name__ == "__main__":
    main()
