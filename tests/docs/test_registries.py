"""Menus and indexes have what the registries have. ``pytest tests/docs --snapshot-update`` puts in what is missing.

What a table says of an entry beside its name is written by hand, and kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from skipgrad.blocks.forms import FORMS
from skipgrad.diagnosis import CHECKS
from skipgrad.lab import CLAIMS
from skipgrad.models import DATA, LIBRARIES
from skipgrad.models.nets import FAMILIES
from skipgrad.remedies import REMEDIES
from skipgrad.writers import WRITERS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def menu(text: str, section: str, pages: Sequence[tuple[str, str]]) -> str:
    """``mkdocs.yml`` with these titles and pages in a section: after its index, before what else is in it."""
    begin = text.index(f"  - {section}:\n") + len(f"  - {section}:\n")
    end = begin + len(re.match(r"(?:      - .*\n)*", text[begin:])[0])  # type: ignore[index]
    index, *lines = text[begin:end].splitlines(keepends=True)
    listed = {page for _, page in pages}
    others = [line for line in lines if line.split()[-1] not in listed]
    return text[:begin] + "".join([index, *(f"      - {_quoted(t)}: {p}\n" for t, p in pages), *others]) + text[end:]


def _quoted(title: str) -> str:
    """A title as a key of YAML: in quotes where it has a colon of its own."""
    return f'"{title}"' if ": " in title else title


def table(text: str, head: str, rows: Sequence[tuple[str, str]], *, ordered: bool) -> str:
    """A page with a row for each (first cell, rest where there is no row yet) in the table below ``head``.

    Rows of other things come last; those there are keep their order unless the registry's says something.
    """
    begin = text.index(head)
    begin = text.index("\n", text.index("\n", begin) + 1) + 1
    end = begin + len(re.match(r"(?:\|.*\n)*", text[begin:])[0])  # type: ignore[index]
    lines = text[begin:end].splitlines(keepends=True)
    there = {first: line for line in lines for first, _ in rows if line.startswith(f"| {first} |")}
    wanted = [there.get(first, f"| {first} | {rest} |\n") for first, rest in rows]
    if ordered:
        new = [*wanted, *(line for line in lines if line not in wanted)]
    else:
        new = [*lines, *(line for line in wanted if line not in lines)]
    return text[:begin] + "".join(new) + text[end:]


def navigation(text: str) -> str:
    checks = [(f"{code} {check.title}", f"checks/{code}.md") for code, check in ours(CHECKS)]
    claims = [(f"{id} {claim.title}", f"lab/{id.lower()}.md") for id, claim in ours(CLAIMS)]
    remedies = [(name, f"remedies/{name}.md") for name in REMEDIES.built_in]
    forms = [(form.title, f"forms/{name}.md") for name, form in ours(FORMS)]
    for section, pages in (("Checks", checks), ("Remedies", remedies), ("Forms", forms), ("The lab", claims)):
        text = menu(text, section, pages)
    return text


def checks(text: str) -> str:
    rows = [(f"[{code}]({code}.md)", f"{c.title} | {c.severity} | –") for code, c in ours(CHECKS)]
    return table(text, "| code |", rows, ordered=True)


def remedies(text: str) -> str:
    rows = [(f"[{name}]({name}.md)", f"{r.title} | – | nothing measured yet") for name, r in ours(REMEDIES)]
    return table(text, "| remedy |", rows, ordered=True)


def lab(text: str) -> str:
    rows = [(f"[{id}]({id.lower()}.md)", f"{c.title} | {c.duration}") for id, c in ours(CLAIMS)]
    return table(text, "| id |", rows, ordered=True)


def data(text: str) -> str:
    rows = [(f"`{ref}`", DATA.about[ref.partition(":")[0]]) for ref in DATA.refs]
    return table(text, "| reference |", rows, ordered=False)


def models(text: str) -> str:
    rows = [(f"`{ref}`", f"{LIBRARIES.about[ref.partition(':')[0]]} | –") for ref in LIBRARIES.refs]
    return table(text, "| reference |", rows, ordered=False)


def ours(registry):  # type: ignore[no-untyped-def]
    """Names and entries of skipgrad's own; what other packages bring has its pages elsewhere."""
    return [(name, registry.get(name)) for name in registry.built_in]


@pytest.mark.parametrize(
    ("file", "with_all"),
    [
        ("mkdocs.yml", navigation),
        ("docs/checks/index.md", checks),
        ("docs/remedies/index.md", remedies),
        ("docs/lab/index.md", lab),
        ("docs/data.md", data),
        ("docs/models.md", models),
    ],
)
def test_a_menu_or_index_has_every_entry(
    file: str, with_all: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    path = ROOT / file
    text = path.read_text("utf-8")
    wanted = with_all(text)
    if request.config.getoption("update_snapshots", False):
        path.write_text(wanted, "utf-8")
        text = wanted
    assert text == wanted, f"{file} lacks an entry, or has another order: pytest tests/docs --snapshot-update"


def test_every_entry_has_its_page() -> None:
    pages = [f"checks/{code}.md" for code, _ in ours(CHECKS)]
    pages += [f"remedies/{name}.md" for name in REMEDIES.built_in]
    pages += [f"forms/{name}.md" for name in FORMS.built_in]
    pages += [f"lab/{name.lower()}.md" for name in CLAIMS.built_in]
    assert [page for page in pages if not (DOCS / page).is_file()] == []


def test_every_family_and_every_kind_of_export_is_named() -> None:
    text = (DOCS / "models.md").read_text("utf-8")
    assert [f for f, family in FAMILIES.items() if f"`{f}{'' if family.first is None else 'N'}`" not in text] == []
    told = re.search(r"--to (\S+) --out DIR", (DOCS / "integrations.md").read_text("utf-8"))
    assert told is not None
    assert sorted(told[1].split("|")) == WRITERS.built_in


def test_a_new_entry_gets_a_row_and_a_place_in_the_menu() -> None:
    page = "x\n\n| code | it |\n|---|---|\n| [A](A.md) | by hand |\n| own | stays |\n\ny\n"
    rows = [("[B](B.md)", "new"), ("[A](A.md)", "not this")]
    assert "|---|---|\n| [B](B.md) | new |\n| [A](A.md) | by hand |\n| own | stays |\n\ny" in table(
        page, "| code |", rows, ordered=True
    )
    assert "| own | stays |\n| [B](B.md) | new |\n\ny" in table(page, "| code |", rows, ordered=False)
    head, more = "nav:\n  - Checks:\n      - checks/index.md\n", "      - More: c/more.md\n  - Next:\n"
    text = f"{head}      - Old: c/B.md\n{more}"
    assert menu(text, "Checks", [("A", "c/A.md"), ("New", "c/B.md")]) == (
        f"{head}      - A: c/A.md\n      - New: c/B.md\n{more}"
    )
