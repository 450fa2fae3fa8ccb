"""Trains cases without skipgrad: a case is written (does it fall ill? does its twin learn?) before the tool is asked.

python benchmarks/clinic/bare.py [--only NAME] [--healthy]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from clinic.cases import Case
from clinic.treat import optimizer_of, steps, trained
from clinic.wards import HEALTHY, SICK


def losses_of(case: Case) -> list[float]:
    """The losses of a case, trained as its owner would."""
    torch.manual_seed(case.seed)
    model = case.build()
    optimizer = optimizer_of(case, trained(case, model))
    return steps(case, model, optimizer)


def main() -> None:
    """Prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--healthy", action="store_true")
    parser.add_argument("--after", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    cases = list(HEALTHY if given.healthy else SICK)[given.after :]
    for case in cases:
        for one in (case, case.cured):
            if one is None or given.only not in one.name:
                continue
            start = time.perf_counter()
            try:
                losses = losses_of(one)
            except Exception as error:  # noqa: BLE001  one case that cannot be built must not end the round
                print(f"ERROR {one.name}: {type(error).__name__}: {error}"[:300], flush=True)
                continue
            tail = median(losses[-max(1, len(losses) // 10) :])
            print(
                f"{one.name:<52} {losses[0]:>9.4g} → {tail:>9.4g}  best {min(losses):.4g}  "
                f"{time.perf_counter() - start:.1f} s  {'/'.join(one.disease)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
