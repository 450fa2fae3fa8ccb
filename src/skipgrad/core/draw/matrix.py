"""A matrix of shares as a heat map that stands alone: the darker a cell, the larger its share."""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.core.draw.strip import LETTER
from skipgrad.core.draw.svg import STYLE
from skipgrad.core.draw.words import clean, xml

_LONGEST = 44  # letters of a name; of a longer one the end tells more
_NUMBERS = 16  # columns up to which the figures stand in their cells
_EDGE = 10.0
_SAID = 7.0  # px of a letter of the sentence


def matrix_svg(
    rows: Sequence[str],
    columns: Sequence[str],
    shares: Sequence[Sequence[float | None]],
    *,
    title: str,
    tips: Sequence[Sequence[str]],
) -> str:
    """The heat map as one SVG element, in light and dark.

    Args:
        rows: names, from the top.
        columns: names, from the left.
        shares: per row and column from 0 to 1; None leaves the place empty.
        title: the sentence above.
        tips: what is shown with a cell's names under the pointer.
    """
    numbered = len(columns) <= _NUMBERS
    wide, high = (40.0, 20.0) if numbered else (14.0, 14.0)
    names, heads = [_cut(r) for r in rows], [_cut(c) for c in columns]
    left = _EDGE + LETTER * max(map(len, names), default=0) + 6
    top = 30 + LETTER * max(map(len, heads), default=0) + 8
    width = max(left + wide * len(columns), _SAID * len(title) + _EDGE) + _EDGE
    height = top + high * len(rows) + _EDGE
    out = [
        f'<svg class="sg-draw" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{xml(title)}">',
        f"<style>{STYLE}.sg-draw .share{{fill:var(--add)}}.sg-draw .place{{fill:var(--t);opacity:.08}}"
        ".sg-draw .spot:hover .place{opacity:.5}</style>",
        '<rect class="paper" width="100%" height="100%" rx="6"/>',
        f'<text class="say" x="{_EDGE}" y="20">{xml(title)}</text>',
    ]
    for k, head in enumerate(heads):
        x = left + wide * (k + 0.5) + 4
        out.append(f'<text transform="translate({x:.1f},{top - 6:.1f}) rotate(-90)">{xml(head)}</text>')
    for i, name in enumerate(names):
        y = top + high * i
        out.append(f'<text x="{left - 6:.1f}" y="{y + high / 2 + 4:.1f}" text-anchor="end">{xml(name)}</text>')
        for k, share in enumerate(shares[i]):
            if share is None:
                continue
            x = left + wide * k
            at = f'x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{wide - 1:.1f}" height="{high - 1:.1f}"'
            number = f'<text class="count" x="{x + wide / 2:.1f}" y="{y + high / 2 + 4:.1f}" text-anchor="middle">'
            out.append(
                f'<g class="spot"><title>{xml(f"{rows[i]} at {columns[k]}: {tips[i][k]}")}</title>'
                f'<rect class="place" {at}/><rect class="share" {at} fill-opacity="{_depth(share):.3f}"/>'
                + (f"{number}{100 * share:.1f}</text>" if numbered else "")
                + "</g>"
            )
    return "".join([*out, "</svg>"])


def matrix_html(drawing: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The heat map with a folded table below it."""
    cells = lambda tag, row: "".join(f"<{tag} style='text-align:left'>{xml(v)}</{tag}>" for v in row)  # noqa: E731
    table = f"<tr>{cells('th', heads)}</tr>" + "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="sg-matrix"><div style="overflow-x:auto;max-width:100%">{drawing}</div>'
        f"<details><summary>{len(rows)} rows summed up</summary><table>{table}</table></details></div>"
    )


def _depth(share: float) -> float:
    """How deep the colour is: nothing at 0, all of it at 1, and small shares still told apart."""
    return max(0.0, min(1.0, share)) ** 0.5


def _cut(name: str) -> str:
    text = clean(name).replace("\n", " ").replace("\t", " ") or "root"
    return text if len(text) <= _LONGEST else "…" + text[1 - _LONGEST :]
