"""The report as one HTML file that opens offline: markup, style, data and scripts, all inside."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from skipgrad.core import Run
from skipgrad.core.files import write_text
from skipgrad.core.strict import finite
from skipgrad.report.charts import charts
from skipgrad.report.document import Parts, parts
from skipgrad.report.marks import SHAPES
from skipgrad.report.strip_picture import STYLE, THINNEST, Scale, strip_svg
from skipgrad.report.strips import Strips
from skipgrad.report.vega import vega_js

# Of what was not understood; a net of ten thousand gates has as many sentences, and they are all alike.
MOST_SENTENCES = 300

_FOLDER = Path(__file__).parent / "templates"


def html(run: Run) -> str:
    """The page of a run."""
    return render(parts(run))


def write_html(run: Run, path: str | Path) -> Path:
    """Writes the page, whole or not at all; makes its folder.

    Raises:
        OutputError: the path cannot be written.
    """
    return write_text(path, html(run), doing="writing the report")


def render(p: Parts) -> str:
    """The page of parts."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    specs, data = charts(p.depth, p.heat, p.losses, p.paths)
    return environment.get_template("page.html.j2").render(
        p=p,
        shapes=SHAPES,
        most_sentences=MOST_SENTENCES,
        drawings=_drawings(p.strips),
        any_arcs=any(s.graph.skips for s in p.strips.strips),
        specs=specs,
        strips_json=_json(_slider(p.strips)),
        charts_json=_json({"specs": specs, "data": data}),
        # Our own files and the bundle: the only texts that go in as they are.
        css=Markup((_FOLDER / "page.css").read_text("utf-8") + STYLE),
        js=Markup((_FOLDER / "page.js").read_text("utf-8")),
        vega=Markup(vega_js()) if specs else "",
    )


def _drawings(strips: Strips) -> list[tuple[str, Markup]]:
    scale = _scale(strips)
    out = []
    for s in strips.strips:
        svg = strip_svg(
            s.graph,
            skip_norms=s.skip_norms[0] if s.skip_norms else (),
            branch_norms=s.branch_norms[0] if s.branch_norms else (),
            gradients=s.gradients[0] if s.gradients else (),
            severity=s.severity,
            scale=scale,
            label=f"{s.who}: the network from input to output",
        )
        out.append((s.who, Markup(svg)))  # strip_svg escapes what comes from the model
    return out


def _scale(strips: Strips) -> Scale | None:
    """One axis for all strips and steps, so that bars can be compared."""
    return Scale.of([g for s in strips.strips for row in s.gradients for g in row])


def _slider(strips: Strips) -> dict[str, Any]:
    scale = _scale(strips)
    return {
        "steps": strips.steps,
        "scale": [scale.low, scale.high] if scale else None,
        "thinnest": THINNEST,
        "strips": [
            {
                "S": [[_short(v) for v in row] for row in s.skip_norms],
                "B": [[_short(v) for v in row] for row in s.branch_norms],
                "G": [[_short(v) for v in row] for row in s.gradients],
            }
            for s in strips.strips
        ],
    }


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.3g}")


def _json(value: Any) -> Markup:
    """JSON that may stand inside a script element whatever the names in it."""
    text = json.dumps(finite(value), separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
