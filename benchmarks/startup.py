"""How long a person waits: importing the package, the help, and the report of a finished run.

    python benchmarks/startup.py RUN [--runs 7]

Whole processes, one after another, the three commands in turn; median, smallest and largest wall seconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run file")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
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
