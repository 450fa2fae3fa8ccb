"""A static site of the lab's results: a card a claim, a page each; works offline, and without a pointer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from skipgrad.core.files import write_text
from skipgrad.core.units import number, seconds
from skipgrad.lab.claim import Claim, Verdict
from skipgrad.lab.contour import heights, surface_data
from skipgrad.lab.draw import legend, svg
from skipgrad.lab.picture import Picture, drawn_only
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.store import Result, Store
from skipgrad.probes.landscape import Landscape

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
    environment.globals |= {"style": Markup(_text("style.css")), "surface_script": Markup(_text("surface.js"))}
    known = [(c, store.verdict(c)) for _, c in CLAIMS.items()]
    page = environment.from_string(_text("claim.html"))
    for claim, verdict in known:
        results = [] if verdict is None else list(store.read(claim, quick=verdict.quick).values())
        _write(folder / f"{claim.id.lower()}.html", page, claim, verdict, results)
    own = [(c, v, _own_page(c, k)) for c, _ in known for k, v in enumerate(store.on_models(c), start=1)]
    for claim, verdict, name in own:
        results = list(store.read(claim, quick=verdict.quick, model=verdict.model).values())
        _write(folder / name, page, claim, verdict, results)
    topics = list(dict.fromkeys(c.topic for c, _ in known))
    index = environment.from_string(_text("index.html"))
    text = index.render(known=known, own=own, topics=topics, version=store.version)
    return write_text(folder / "index.html", text, doing=DOING)


def _own_page(claim: Claim, number_: int) -> str:
    return f"{claim.id.lower()}-own-{number_}.html"


def _write(path: Path, page: Template, claim: Claim, verdict: Verdict | None, results: Sequence[Result]) -> None:
    shape = None if verdict is None else claim.picture(verdict.figures)
    drawing, keys = (Markup(""), []) if shape is None else _drawing(claim, shape)
    names = [] if verdict is None else list(verdict.figures[0].values)
    text = page.render(
        claim=claim,
        verdict=verdict,
        picture=drawing,
        kind="" if shape is None else shape.kind,
        legend=keys,
        files=[] if shape is None or shape.kind != "contour" else _heights_as_files(path, shape),
        surface=Markup(surface_data(shape)) if shape is not None and shape.kind == "contour" and drawing else "",
        names=[n for n in names if shape is None or not drawn_only(shape, n)],
        results=results,
    )
    write_text(path, text, doing=DOING)


def _heights_as_files(page: Path, picture: Picture) -> list[str]:
    """The maps of a contour beside its page, for numpy and for ParaView; their names."""
    names = []
    for m in heights(picture):
        stem = f"{page.stem}-{re.sub('[^a-z0-9]+', '-', m.name.lower())}"
        for ending in (".npz", ".vtk"):
            names.append(Landscape(m.xs, m.ys, m.z).save(page.with_name(stem + ending)).name)
    return names


def _drawing(claim: Claim, picture: Picture) -> tuple[Markup, list[tuple[Markup, str]]]:
    return Markup(svg(picture, claim.title)), [(Markup(mark), words) for mark, words in legend(picture)]


def _text(name: str) -> str:
    return (files("skipgrad.lab") / "templates" / name).read_text("utf-8")
