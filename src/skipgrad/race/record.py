"""The run file of a job that races: made at the start, written as things happen, and closed however the job ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skipgrad.core import Trial, ending
from skipgrad.models.versions import versions
from skipgrad.race.race import Dropped, Event, Finished, Noted, Started, Stepped
from skipgrad.store import RunWriter

COMMIT_EVERY = 0.5  # seconds

# stage, steps done, steps in all, what is going on
Progress = Callable[[str, int, int, str], Any]


@contextmanager
def run_file(path: Path, meta: dict[str, Any]) -> Iterator[RunWriter]:
    """A new run file, open for the time of a job. How the job ended is written into it.

    A KeyboardInterrupt that passes through gets a note that says where the file is.

    Args:
        path: of the file, which must not exist.
        meta: `Run.meta`; versions, the time of the start and the state are added.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    known = {**meta, "versions": versions(), "state": "running", "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    with RunWriter.create(path, known) as file:
        try:
            yield file
        except BaseException as error:
            file.meta(**ending(error).meta()).commit()
            if isinstance(error, KeyboardInterrupt):
                error.add_note(f"what was measured is kept: {path}\nshow it: skipgrad report {path}")
            raise
        file.meta(**ending(None).meta())


class RaceRecord:
    """Writes the events of a race into a run file, and reports progress; pass it to `race` as ``on_event``.

    Args:
        file: the run file.
        progress: called with (stage, steps done, steps in all, note).
        stage: what is going on, in words.
        steps: how many there will be in all.
    """

    def __init__(self, file: RunWriter, progress: Progress, stage: str, steps: int) -> None:
        self._file, self._progress, self._stage, self._steps = file, progress, stage, steps
        self._done = 0
        self._trial: Trial | None = None
        self._committed = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._trial = event.trial
            self._file.trial(event.trial)
        elif isinstance(event, Stepped):
            self._file.losses([event.point])
            self._done += 1
            self._progress(self._stage, self._done, self._steps, f"{self._who()}: loss {event.point.loss:.4g}")
        elif isinstance(event, Finished):
            self._file.trial(event.result.trial)
        elif isinstance(event, Dropped):
            self._file.note(f"{event.remedy} was not tried to the end: {event.reason}")
        elif isinstance(event, Noted):
            self._file.note(event.text)
        now = time.monotonic()
        if now - self._committed > COMMIT_EVERY:
            self._file.commit()
            self._committed = now

    def _who(self) -> str:
        trial = self._trial
        assert trial is not None, "a trial starts before it steps"
        return f"{trial.remedy or 'patient'}, rate {trial.rate:.3g}, seed {trial.seed}"
