"""A gradient table as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from skipgrad.core.draw.words import clean, xml
from skipgrad.core.units import number, shapes
from skipgrad.probes.table.records import GradientRow

HEADS = ("mode", "dL/dx", "error")
SYMBOLS = {
    "x̂": "x̂ = (x − mean)/σ, σ² = variance + ε; a mean is over all values that share one σ",
    "dL/dF": "dL/dF = dL/dy, for y = x + F(x)",
    "J₁": "J₁, J₂ …: the Jacobians of the layers in a row, by the formula of each",
}

_STYLE = (
    ".sg-table{font:13px/1.45 system-ui,sans-serif;max-width:100%;overflow-x:auto}"
    ".sg-table table{border-collapse:collapse}"
    ".sg-table th,.sg-table td{padding:2px 12px 2px 0;text-align:left;border:0;background:none}"
    ".sg-table th{font-weight:600}.sg-table .sg-name{font-weight:600;padding-top:.5em}"
    ".sg-table .sg-right{text-align:right;white-space:nowrap}"
)


def text(rows: Sequence[GradientRow], dtype: str, seed: int) -> str:
    """The table in plain text: a line for each layer, and under it its formulas in each mode."""
    lines = [HEADS, *(line for row in rows for line in _lines(row))]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(2)]
    shown = [_title(dtype, seed), "", _padded(HEADS, widths)]
    layer = None
    for row in rows:
        if row.layer != layer:
            layer = row.layer
            shown.append(_name(row))
        shown += [_padded(line, widths) for line in _lines(row)]
        if len(row.terms) > 1:
            shown.append(f"  {'terms':>{widths[0]}}  {_terms(row)}")
    return "\n".join([*shown, "", *_legend(rows)])


def html(rows: Sequence[GradientRow], dtype: str, seed: int) -> str:
    """One element that holds the table; nothing outside it is changed or asked for."""
    body = [_tags("th", HEADS)]
    layer = None
    for row in rows:
        if row.layer != layer:
            layer = row.layer
            body.append(f'<td class="sg-name" colspan="{len(HEADS)}">{xml(_name(row))}</td>')
        body += [_tags("td", line) for line in _lines(row)]
        if len(row.terms) > 1:
            body.append(f'<td class="sg-right">terms</td><td colspan="2">{xml(_terms(row))}</td>')
    legend = "".join(f"<li>{xml(line)}</li>" for line in _legend(rows))
    return (
        f'<div class="sg-table"><style>{_STYLE}</style><p>{xml(_title(dtype, seed))}</p>'
        f"<table>{''.join(f'<tr>{row}</tr>' for row in body)}</table><ul>{legend}</ul></div>"
    )


def _title(dtype: str, seed: int) -> str:
    return f"dL/dx of each layer: autograd against formulas; {dtype}, seed {seed}"


def _name(row: GradientRow) -> str:
    return f"{clean(row.layer)}: {shapes(row.input_shape, row.output_shape)}"


def _lines(row: GradientRow) -> list[tuple[str, str, str]]:
    lines = [(row.mode, row.formula, number(row.error))]
    if row.popular_formula is not None:
        lines.append(("popular", row.popular_formula, number(row.popular_error)))
    return lines


def _terms(row: GradientRow) -> str:
    return ", ".join(f"{t.path} {number(t.size)}" for t in row.terms)


def _legend(rows: Sequence[GradientRow]) -> list[str]:
    lines = ["error: ‖by the formula − by autograd‖ / ‖by autograd‖"]
    if any(row.popular_formula for row in rows):
        lines.append("popular: what popular tables give, where that is another formula in some mode")
    if any(len(row.terms) > 1 for row in rows):
        lines.append("terms: ‖term‖ / ‖dL/dx‖")
    lines += [line for symbol, line in SYMBOLS.items() if any(symbol in row.formula for row in rows)]
    return [*lines, *dict.fromkeys(row.note for row in rows if row.note)]


def _padded(line: tuple[str, str, str], widths: list[int]) -> str:
    first, formula, error = line
    # The popular formula stands below the layer's own, its name to the right under the mode.
    first = f"{first:>{widths[0]}}" if first == "popular" else f"{first:<{widths[0]}}"
    return f"  {first}  {formula}{' ' * (widths[1] - cell_len(formula))}  {error:>8}"


def _tags(tag: str, cells: tuple[str, str, str]) -> str:
    side = ' class="sg-right"' if cells[0] == "popular" else ""
    first, formula, error = map(xml, cells)
    return f'<{tag}{side}>{first}</{tag}><{tag}>{formula}</{tag}><{tag} class="sg-right">{error}</{tag}>'
