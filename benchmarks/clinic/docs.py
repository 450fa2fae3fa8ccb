"""Writes the clinic's tables into docs/checks: all of them into the index, each check's row into its page."""

from __future__ import annotations

from pathlib import Path

from clinic.rows import Row
from clinic.table import asked, cures, row_of_check, table

BEGIN, END = "<!-- clinic: begin -->", "<!-- clinic: end -->"
PAGES = Path(__file__).parents[2] / "docs" / "checks"
# A row stands where its page says when the check is wrong, which ends where the page says what to do.
NEXT = "## What to do"


def between(text: str, inner: str) -> str:
    """A page with something between its marks; a page without marks gets them at the end of "When it is wrong"."""
    if BEGIN not in text:
        before, _, after = text.partition(NEXT)
        text = f"{before}{BEGIN}\n\n{END}\n\n{NEXT}{after}"
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{inner}\n\n{END}{rest.partition(END)[2]}"


def pages(rows: list[Row]) -> dict[Path, str]:
    """Every page as it has to be."""
    index = PAGES / "index.md"
    what = table(rows)
    if done := cures(rows):
        what += f"\n\nWhat became of the sick when the tool did what its own findings prescribe:\n\n{done}"
    out = {index: between(index.read_text("utf-8"), what)}
    for code in asked():
        page = PAGES / f"{code}.md"
        told = f"In the [clinic](index.md#the-clinic):\n\n{row_of_check(rows, code)}"
        out[page] = between(page.read_text("utf-8"), told)
    return out


def write(rows: list[Row]) -> None:
    """Writes the pages."""
    for page, text in pages(rows).items():
        page.write_text(text, "utf-8")
