"""A static site of the lab's results: a card a claim, a page each; works offline, and without a pointer."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from skipgrad.core.files import write_text
from skipgrad.core.units import number, seconds
from skipgrad.lab.claim import Claim, Verdict
from skipgrad.lab.draw import legend, svg
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.store import Store

DOING = "writing the gallery"


def write_gallery(store: Store, folder: str | Path) -> Path:
    """Writes the site; claims without results have a card that says so.

    Returns:
        Its first page.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "seconds": seconds}
    environment.globals["style"] = Markup(_text("style.css"))
    known = [(c, store.verdict(c)) for _, c in CLAIMS.items()]
    page = environment.from_string(_text("claim.html"))
    for claim, verdict in known:
        drawing, keys = _drawing(claim, verdict)
        results = [] if verdict is None else list(store.read(claim, quick=verdict.quick).values())
        text = page.render(claim=claim, verdict=verdict, picture=drawing, legend=keys, results=results)
        write_text(folder / f"{claim.id.lower()}.html", text, doing=DOING)
    topics = list(dict.fromkeys(c.topic for c, _ in known))
    index = environment.from_string(_text("index.html")).render(known=known, topics=topics, version=store.version)
    return write_text(folder / "index.html", index, doing=DOING)


def _drawing(claim: Claim, verdict: Verdict | None) -> tuple[Markup, list[tuple[Markup, str]]]:
    if verdict is None:
        return Markup(""), []
    picture = claim.picture(verdict.figures)
    return Markup(svg(picture, claim.title)), [(Markup(mark), words) for mark, words in legend(picture)]


def _text(name: str) -> str:
    return (files("skipgrad.lab") / "templates" / name).read_text("utf-8")
