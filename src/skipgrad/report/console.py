"""The report in the terminal: the page's parts in the page's order, in under 40 lines at 100 columns."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

from skipgrad.core import Run
from skipgrad.report.cards import CureRow
from skipgrad.report.depth import DepthCurves
from skipgrad.report.document import Parts, parts
from skipgrad.report.losses import LossCurves
from skipgrad.report.marks import SHAPES
from skipgrad.report.paths import PathCurves
from skipgrad.report.strip_picture import Scale
from skipgrad.report.strips import Strip, Strips
from skipgrad.report.subjects import share
from skipgrad.report.text import figure, plural, sample

_STYLES = {"error": "bold magenta", "warning": "yellow", "info": "cyan", "passed": "blue"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_GRAPH = 60  # columns of a strip
MOST_FINDINGS, MOST_CURES, MOST_LINES = 3, 4, 4
MOST = 37  # lines before the last two: under 40 with them


def terminal(run: Run, console: Console) -> None:
    """Prints the report of a run.

    Args:
        run: what to report.
        console: where; lines are cut at its width, but for the command and the path of the page.
    """
    p = parts(run)
    for line in _lines(p, console.width):
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True, highlight=False)
    # What one may want to copy is never cut.
    if p.command:
        console.print(Text.assemble(("repeat ", "bold"), _flat(p.command)), soft_wrap=True, highlight=False)
    where = _flat(p.report) if p.report else "not written; `skipgrad report RUN` makes the page"
    console.print(Text.assemble(("report ", "bold"), where), soft_wrap=True, highlight=False)


def _lines(p: Parts, width: int) -> list[Text]:
    out = _verdict(p, width)
    at = f" at step {p.strips.steps[0]}; one column a layer or skip, input at the left" if p.strips.steps else ""
    out += [Text(), Text.assemble(("Where does the gradient go?", "bold"), (at, "dim")), *_strips(p.strips)]
    out += _paths(p.paths, width)
    out += [Text(), Text("How does it change with depth and time?", "bold")]
    out += [
        Text(f"  {line}", "dim")
        for sentence in p.thinned[:1]
        for line in textwrap.wrap(sentence, max(20, width - 2))[:2]
    ]
    out += [*_depth(p.depth), *_losses(p.losses)]
    out += [Text(), Text("What do I do now?", "bold"), *_actions(p, width)]
    out += [Text(), *_record(p)]
    while len(out) > MOST and (blank := [i for i, line in enumerate(out) if not line.plain]):
        del out[blank[-1]]  # air goes before anything that is said
    return out


def _verdict(p: Parts, width: int) -> list[Text]:
    sentence = textwrap.wrap(_flat(p.headline.sentence), max(20, width - 2))
    style = _STYLES.get(p.headline.state, "")
    shape = SHAPES.get(p.headline.state, "?")
    out = [Text.assemble((f"{shape} " if i == 0 else "  ", style), line) for i, line in enumerate(sentence[:5])]
    if p.marks:
        row = Text()
        for m in p.marks:
            if row.cell_len + len(m.code) + 4 > width:
                out.append(row)
                row = Text()
            row.append(f"  {m.shape} {_flat(m.code)}", _STYLES.get(m.state, "dim"))
        states = dict.fromkeys(m.state for m in p.marks)
        out += [row, Text("  " + "   ".join(f"{SHAPES.get(s, '?')} {s}" for s in states), "dim")]
    if p.missing:
        out += [Text(f"  {line}") for line in textwrap.wrap(_flat(" ".join(p.missing)), max(20, width - 2))[:3]]
    return out


def _strips(strips: Strips) -> list[Text]:
    if not strips.strips:
        return [Text("  The network is not known: the run ended before it was traced.")]
    scale = Scale.of([g for s in strips.strips for row in s.gradients for g in row])
    out = []
    for s in strips.strips:
        count = f"{s.layers:,} layers, {f'{s.skips:,}' if s.skips else 'no'} skips"
        out.append(Text.assemble("  ", (s.who, "bold"), f": {count}"))
        if scale and s.gradients and any(s.gradients[0]):
            ends = f" ‖dL/dz‖, log scale {figure(10.0**scale.low, 1)} to {figure(10.0**scale.high, 1)}"
            out.append(Text(f"  {_spark([scale.height(g) for g in s.gradients[0]])}{ends}"))
        shares = _shares(s)
        if shares:
            out.append(Text(f"  {_spark(shares)} ‖S‖² of ‖S‖²+‖B‖², 0 to 100 %"))
    return out


def _shares(strip: Strip) -> list[float]:
    for row, others in zip(strip.skip_norms[:1], strip.branch_norms[:1], strict=True):
        found = [share(s, b) if s is not None and b is not None else None for s, b in zip(row, others, strict=True)]
        return [] if all(f is None for f in found) else [f or 0.0 for f in found]
    return []


def _spark(heights: list[float]) -> str:
    """Blocks for shares of one; a space for none."""
    return "".join(" " if h <= 0 else _BLOCKS[min(7, int(h * 8))] for h in sample(heights, _GRAPH))


def _paths(paths: PathCurves, width: int) -> list[Text]:
    nets = []
    for who in dict.fromkeys(m["who"] for m in paths.means):
        own = [m for m in paths.means if m["who"] == who]
        means = " to ".join(figure(m["signed"], 2) for m in own)
        n = own[0]["branches"]
        nets.append(f"{_flat(who)} {means} of {f'{n:,}' if nets else plural(n, 'branch', 'branches')}")
    line = f"mean path length, first to last step: {'; '.join(nets)}"
    return [Text(f"  {part}") for part in textwrap.wrap(line, max(20, width - 2))[:2]] if nets else []


def _depth(depth: DepthCurves) -> list[Text]:
    out = []
    for who in dict.fromkeys(q["who"] for q in depth.points):
        own = [q for q in depth.points if q["who"] == who]
        last = [q for q in own if q["when"] == own[-1]["when"]]
        ends = f"{figure(last[0]['norm'], 2)} at the first layer, {figure(last[-1]['norm'], 2)} at the last"
        out.append(Text(f"  {depth.quantity}, {_flat(who)}: {ends}, in the last step measured"))
    return out or [Text("  No layer's gradient is a positive number.")]


def _losses(losses: LossCurves) -> list[Text]:
    out = []
    for who in losses.who[:2]:
        own = [q for q in losses.points if q["who"] == who]
        if own:
            first = next(q["trial"] for q in own)
            curve = [q for q in own if q["trial"] == first]
            ends = f"{figure(curve[0]['loss'])} to {figure(curve[-1]['loss'])} in {curve[-1]['step'] + 1:,} steps"
            seconds = curve[-1]["seconds"]
            out.append(Text(f"  loss, {_flat(who)}: {ends}{f' and {figure(seconds)} s' if seconds else ''}"))
    return out or [Text("  No loss is a finite number.")]


def _actions(p: Parts, width: int) -> list[Text]:
    out: list[Text] = []
    for c in p.cards[:MOST_FINDINGS]:
        evidence = ", ".join(f"{label} {text}" for label, text in c.evidence[:4])
        head = f"{c.shape} {c.code} {_flat(c.title)}"
        out.append(Text.assemble("  ", (head, _STYLES.get(c.severity, "")), f" ({c.severity}): {_flat(evidence)}"))
        out.append(Text(f"    {textwrap.shorten(_flat(c.prescription), max(20, width - 4), placeholder=' …')}"))
    if len(p.cards) > MOST_FINDINGS:
        out.append(Text(f"  {len(p.cards) - MOST_FINDINGS} more on the page", "dim"))
    if not p.cards:
        out.append(Text("  Nothing was found that needs a cure." if p.marks else "  There are no findings to act on."))
    ranked = sorted(p.cures, key=lambda c: not c.won)
    for c in ranked[:MOST_CURES]:
        gain = f": best loss {c.loss}{_ratios(c)}" if c.state != "refused" else f": {c.reason}"
        out.append(
            Text.assemble("  ", (f"{c.shape} {_flat(c.remedy)}", "bold" if c.won else ""), f" {c.state}{_flat(gain)}")
        )
    if len(ranked) > MOST_CURES:
        out.append(Text(f"  {len(ranked) - MOST_CURES} more remedies on the page", "dim"))
    code = [line for line in p.lines.splitlines() if line.strip()]
    out += [Text(f"    {line}", "cyan") for line in code[:MOST_LINES]]
    if len(code) > MOST_LINES:
        out[-1] = Text("    … the whole of it is on the page", "dim")
    return out


def _ratios(c: CureRow) -> str:
    """Steps and seconds, unless the patient does not train and there is nothing to be faster than."""
    if c.steps == c.seconds == "–":
        return ""
    return f", steps {_with(c.steps, c.steps_spread)}, seconds {_with(c.seconds, c.seconds_spread)}"


def _with(ratio: str, spread: str) -> str:
    return f"{ratio} ({spread})" if spread else ratio


def _record(p: Parts) -> list[Text]:
    known = dict(p.facts)
    out = []
    for sentence in p.not_understood[:1]:
        more = f"({len(p.not_understood) - 1} more) " if len(p.not_understood) > 1 else ""
        out.append(Text.assemble(("not understood ", "bold"), f"{more}{_flat(sentence)}"))
    for title, keys in (("run ", ["seed", "training", "device"]), ("", ["versions"])):
        record = [f"{k} {known[k]}" for k in keys if k in known]
        if record:
            out.append(Text.assemble((title, "bold"), _flat("; ".join(record))))
    return out


def _flat(text: str) -> str:
    """On one line, whatever was in a name."""
    return " ".join(text.split())
