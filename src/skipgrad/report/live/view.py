"""One frame of a run as lines for a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise

from rich.text import Text

from skipgrad.core.account import Account
from skipgrad.core.draw.words import ROOT, clean
from skipgrad.core.run import LayerRow, SkipRow
from skipgrad.core.units import number, percent, seconds
from skipgrad.report.live.tail import Frame

_BLOCKS = "▁▂▃▄▅▆▇█"
_FULL, _EMPTY, _BROKEN = "█", "░", "×"
_LABEL = 10  # columns of the word at the left
_MOST_SKIPS, _RECENT = 10, 20  # rows of the table; losses that the pace is taken from
_SHORTEST = 1e-6  # seconds
_NOTHING = "no gradient"


class Pace:
    """Steps a second: by the seconds of training the run wrote down, else by the clock of whoever watches."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def __call__(self, frame: Frame, now: float | None = None) -> float | None:
        """The pace of late; None where it is not known (yet)."""
        recent = frame.recent[-_RECENT:]
        if len(recent) > 1 and (spent := recent[-1].seconds - recent[0].seconds) > _SHORTEST:
            return (recent[-1].step - recent[0].step) / spent
        if frame.step is None:
            return None
        if self._seen and frame.step < self._seen[-1][1]:
            self._seen.clear()  # another trial
        self._seen = [*self._seen[-_RECENT:], (time.monotonic() if now is None else now, frame.step)]
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return (last - first) / (ended - began) if ended - began > _SHORTEST and last > first else None


def view(frame: Frame, width: int, height: int = 40, pace: float | None = None) -> list[Text]:
    """The run at this moment.

    Args:
        frame: the run.
        width: columns.
        height: lines; long lists are cut to it.
        pace: steps a second.

    Returns:
        Lines, each at most `width` wide.
    """
    plot = max(10, width - _LABEL - 2)
    out = [_head(frame), _progress(frame, pace), *_error(frame), *_measured(frame)]
    out += _loss(frame, plot)
    out += _depth(frame.layers, plot)
    out += _skips(frame, width, max(3, min(_MOST_SKIPS, height - len(out) - 4)))
    for line in out:
        line.truncate(width, overflow="ellipsis")
    return out


def _line(label: str, *parts: str) -> Text:
    return Text.assemble((label.ljust(_LABEL), "bold"), " · ".join(p for p in parts if p), no_wrap=True)


def _head(frame: Frame) -> Text:
    which = ""
    if frame.trial is not None:
        t = frame.trial
        many = f" of {frame.trials}" if frame.trials > 1 else ""
        which = f"{clean(t.remedy or 'patient')} (trial {t.id}{many}, rate {number(t.rate)})"
    model = clean(frame.meta.get("model", ""))
    return _line("run", clean(frame.path.name), model, which)


def _progress(frame: Frame, pace: float | None) -> Text:
    planned = frame.trial.steps if frame.trial is not None else 0
    if frame.state != "running":
        planned = 0
    made = 0 if frame.step is None else frame.step + 1
    done = f"step {made - 1:,}" if made else "no step yet"
    if planned > made:
        done = f"{made:,} of {planned:,} steps"
    rate = f"{number(pace)} steps/s" if pace else ""
    left = f"{seconds((planned - made) / pace)} left" if pace and planned > made else ""
    # A killed run still says that it is running: how long ago it wrote tells.
    wrote = f"written {seconds(frame.age)} ago" if frame.state == "running" else ""
    return _line(clean(frame.state), done, rate, left, wrote)


def _measured(frame: Frame) -> list[Text]:
    """What of the steps was measured, at what cost, and what could not be."""
    record = frame.meta.get("account")
    if not record:
        return []
    account = Account.from_dict(record)
    steps, *_ = account.lines()
    missed = [f"{n:,} forwards not: {clean(reason)}" for reason, n in account.unmeasured.items()]
    return [_line("measured", steps.replace(" measured", "", 1), *missed)]


def _error(frame: Frame) -> list[Text]:
    error = " ".join(clean(frame.meta.get("error", "")).split())
    return [_line("error", error)] if error and frame.state == "failed" else []


def _loss(frame: Frame, plot: int) -> list[Text]:
    losses = frame.losses
    if not losses:
        return [_line("loss", "none was written")]
    first, last = losses[0], losses[-1]
    said = f"{number(last.loss)} at step {last.step:,}"
    if last.step != first.step:
        said += f", from {number(first.loss)} at step {first.step:,}"
    broken = sum(not math.isfinite(p.loss) for p in losses)
    among = "" if frame.all_losses else f" of {len(losses):,} looked at"
    extra = f"{broken:,}{among} not finite ({_BROKEN})" if broken else ""
    low, high = _ends([p.loss for p in losses])
    curve = [_height(v, low, high) for v in _means([p.loss for p in losses], plot)]
    return [_line("loss", said, extra), _line("", "".join(curve))]


def _depth(layers: Sequence[LayerRow], plot: int) -> list[Text]:
    if not layers:
        return [_line("gradient", "no layer was measured yet")]
    norms = [r.out_grad_norm for r in layers]
    logs = [math.log10(n) if math.isfinite(n) and n > 0 else (-math.inf if n == 0 else math.nan) for n in norms]
    low, high = _ends(logs)
    bars = "".join(_height(v, low, high) for v in _spread(logs, plot))
    zero, broken = norms.count(0.0), sum(not math.isfinite(n) for n in norms)
    extra = [f"{zero:,} zero" if zero else "", f"{broken:,} not finite ({_BROKEN})" if broken else ""]
    ends = f"‖dL/dz‖ {number(norms[0], 2)} at the first of {len(norms):,} layers, {number(norms[-1], 2)} at the last"
    scale = f"log scale, {number(10.0**low, 2)} to {number(10.0**high, 2)}" if math.isfinite(low) else ""
    return [_line("gradient", ends), _line("", bars), _line("", "input left", scale, *extra)]


def _skips(frame: Frame, width: int, most: int) -> list[Text]:
    rows = sorted(frame.skips, key=_worst)
    if not rows:
        return [_line("skips", "none was measured yet")]
    of = "" if frame.measured == frame.trial or frame.measured is None else f" of trial {frame.measured.id}"
    many = f"{most} of {len(rows):,}" if len(rows) > most else f"{len(rows):,}"
    head = f"share of ‖S‖²+‖B‖², least S first: {many}, step {rows[0].step:,}{of}"
    # Two shares, two norms and the gaps take 39 columns; of the rest the bar gives way to the names first.
    longest = max(len(_name(r)) for r in rows[:most])
    bar = max(len(_NOTHING), min(24, width - 39 - longest))
    name = max(8, min(longest, width - 39 - bar))
    columns = f"{'':{name}} {'S':>8} {'':{bar}} {'B':<8} {'‖S‖':>9} {'‖B‖':>9}"
    out = [_line("skips", head), Text(columns, style="dim", no_wrap=True)]
    for row in rows[:most]:
        part = share(row)
        if not row.finite:
            middle = f"{'':>8} {'not finite':{bar}} {'':<8}"
        elif part is None:
            middle = f"{'':>8} {_NOTHING:{bar}} {'':<8}"
        else:
            # Neither side looks like nothing that is something.
            full = max(part > 0, min(round(part * bar), bar - (part < 1)))
            middle = f"{percent(part):>8} {_FULL * full}{_EMPTY * (bar - full)} {percent(1 - part):<8}"
        label = _fitted(_name(row), name)
        out.append(
            Text(f"{label:{name}} {middle} {number(row.skip_norm):>9} {number(row.branch_norm):>9}", no_wrap=True)
        )
    return out


def share(row: SkipRow) -> float | None:
    """‖S‖² of ‖S‖²+‖B‖²; None where both are zero or one is no number."""
    top = max(row.skip_norm, row.branch_norm)
    if not (math.isfinite(row.skip_norm) and math.isfinite(row.branch_norm)) or top == 0:
        return None
    s, b = row.skip_norm / top, row.branch_norm / top  # a square of 1e-200 is zero
    return s * s / (s * s + b * b)


def _worst(row: SkipRow) -> tuple[int, float]:
    part = share(row)
    return (0, 0.0) if not row.finite else (1, 0.0) if part is None else (2, part)


def _name(row: SkipRow) -> str:
    return " ".join(clean(row.skip).split()) or ROOT


def _fitted(name: str, width: int) -> str:
    """Cut at the left: what tells two paths apart is at the right."""
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    real = [v for v in values if math.isfinite(v)]
    return (min(real), max(real)) if real else (math.nan, math.nan)


def _height(value: float, low: float, high: float) -> str:
    """A block between two ends; a space for a zero on a log scale, a cross for what is no number."""
    if value == -math.inf and math.isfinite(low):
        return " "
    if not math.isfinite(value):
        return _BROKEN
    return _BLOCKS[min(7, int(8 * (value - low) / (high - low)))] if high > low else _BLOCKS[3]


def _means(values: Sequence[float], most: int) -> list[float]:
    """At most so many, each the mean of its stretch; one that is no number stays one."""
    if len(values) <= most:
        return list(values)
    cuts = [round(i * len(values) / most) for i in range(most + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]


def _spread(values: Sequence[float], most: int) -> list[float]:
    """At most so many, evenly spaced, first and last included."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
