"""Races cures on workloads, each from where it stopped: ``python benchmarks/time_to_target --out runs``.

A workload is a folder; a finished trial is never repeated. The table is printed at the end, and after Ctrl-C of what
there is.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import machine

from skipgrad.boost import BoostOptions, BoostResult, boost_job
from skipgrad.core import SkipgradError
from skipgrad.core.units import number, ratio, seconds
from time_to_target.workloads import RACES, Race


def run(race: Race, out: Path, trials: int, seeds: int) -> BoostResult:
    """One race, or what of it is not finished."""
    last = [0.0]

    def tell(stage: str, done: int, total: int, note: str) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{race.name}: {stage} {done}/{total} {note}", file=sys.stderr, flush=True)

    options = BoostOptions(
        race.model,
        race.data,
        race.model_args,
        race.recipe,
        trials=trials,
        seeds=seeds,
        tune_at_depth=race.tune_at_depth,
        threads=1,
        out=out / race.name,
        remedies=race.remedies,
        command=f"python benchmarks/time_to_target {race.name}",
    )
    return boost_job(options, progress=tell)


def rows(race: Race, result: BoostResult) -> list[str]:
    """The lines of a race in the table."""
    lines = [f"\n{race.name}: {race.model} on {race.data} {race.model_args or ''}; target {number(result.target.loss)}"]
    lines.append(f"  {result.sentence}")
    for c in (result.baseline, *result.contestants):
        if c.state == "refused":
            lines.append(f"  {c.name:<16} refused: {c.reason}")
            continue
        ends = "–" if c.interval is None else "–".join("never" if e is None else number(e) for e in c.interval)
        lines.append(
            f"  {c.name:<16} {c.state:<10} time {ratio(c.time_ratio)} [{ends}]  steps {ratio(c.steps_ratio)}  failed "
            f"{c.failures}/{c.runs}  final {number(c.final_loss)}  tuning {c.trials} trials in {seconds(c.seconds)}  "
            f"{', '.join(f'{k} {number(v) if isinstance(v, float) else v}' for k, v in c.settings.items())}"
        )
    return lines + [f"  note: {note}" for note in result.notes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RACES)}; all when none")
    parser.add_argument("--out", type=Path, required=True, help="a folder for each race's trials")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    unknown = [n for n in options.names if n not in RACES]
    if unknown:
        parser.error(f"no workload {unknown[0]}; known: {', '.join(RACES)}")
    print(f"{machine()}; {options.trials} tuning trials each, {options.seeds} fresh seeds, one thread")
    for name in options.names or RACES:
        try:
            print(
                "\n".join(rows(RACES[name], run(RACES[name], options.out, options.trials, options.seeds))), flush=True
            )
        except SkipgradError as error:
            print(f"\n{name}: {error}", flush=True)


if __name__ == "__main__":
    main()
