"""Races cures on workloads, each from where it stopped: ``python benchmarks/time_to_target --out runs``.

A workload is a folder; a finished trial is never repeated, and what a race said is kept there. ``--untuned`` races
auto at three typed rates, too. At the end, and with ``--goals`` at once, the goals of the race are held against
what is kept: reached, missed or not run. Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import machine

from skipgrad.boost import BoostOptions, BoostResult, boost_job
from skipgrad.core import SkipgradError
from skipgrad.core.units import number, ratio, seconds
from time_to_target.goals import PRESCRIBED, TUNED, UNTUNED, stored, table
from time_to_target.workloads import RACES, Race


def run(race: Race, out: Path, trials: int, seeds: int, workers: int = 1, ruleset: str = "tuned") -> BoostResult:
    """One race, or what of it is not finished; its answer is kept in its folder."""
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
        ruleset=ruleset,
        tune_at_depth=race.tune_at_depth,
        workers=workers,
        threads=1,
        out=out / race.name,
        remedies=race.remedies if ruleset == "tuned" else (PRESCRIBED,),
        command=f"python benchmarks/time_to_target {race.name}",
    )
    result = boost_job(options, progress=tell)
    kept = TUNED if ruleset == "tuned" else UNTUNED
    (out / race.name / kept).write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")
    return result


def rows(race: Race, result: BoostResult, ruleset: str = "tuned") -> list[str]:
    """The lines of a race in the table."""
    what = f"{Path(race.model).name} on {Path(race.data).name} {race.model_args or ''}"
    lines = [f"\n{race.name} ({ruleset}): {what}; target {number(result.target.loss)}", f"  {result.sentence}"]
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
    parser.add_argument("--workers", type=int, default=1, help="trials side by side")
    parser.add_argument("--untuned", action="store_true", help=f"{PRESCRIBED} at three typed rates, too")
    parser.add_argument("--goals", action="store_true", help="only hold what is kept against the goals")
    options = parser.parse_args()
    if options.goals:
        print(goals(options.out))
        return
    unknown = [n for n in options.names if n not in RACES]
    if unknown:
        parser.error(f"no workload {unknown[0]}; known: {', '.join(RACES)}")
    print(f"{machine()}; {options.trials} tuning trials each, {options.seeds} fresh seeds, one thread")
    for name in options.names or RACES:
        for ruleset in ("tuned", "self-tuning") if options.untuned else ("tuned",):
            try:
                result = run(RACES[name], options.out, options.trials, options.seeds, options.workers, ruleset)
                print("\n".join(rows(RACES[name], result, ruleset)), flush=True)
            except SkipgradError as error:
                print(f"\n{name} ({ruleset}): {error}", flush=True)
    print(goals(options.out))


def goals(out: Path) -> str:
    """The table of the goals, of what is kept."""
    return "\n".join(table({file: stored(out, file) for file in (TUNED, UNTUNED)}))


if __name__ == "__main__":
    main()
