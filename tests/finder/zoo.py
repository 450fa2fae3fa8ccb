"""Tables of reference counts: an architecture a row, with the derivation from its paper or definition.

Columns, tab-separated: model, input, adds, proj (how many of the adds have a projection shortcut), concats, gates,
indices, long (how many of all skips are long), why (the derivation).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skipgrad.core import SkipGraph


@dataclass(frozen=True)
class Row:
    """What a table says of one architecture."""

    model: str
    input: str
    adds: int
    proj: int
    concats: int
    gates: int
    indices: int
    long: int
    why: str


def rows(name: str) -> dict[str, Row]:
    """The rows of the table ``NAME.tsv`` in this folder, by model."""
    out: dict[str, Row] = {}
    for line in (Path(__file__).parent / f"{name}.tsv").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        assert len(cells) == 9, f"{name}.tsv: {len(cells)} cells in {line!r}"
        assert cells[0] not in out, f"{name}.tsv: {cells[0]} twice"
        out[cells[0]] = Row(cells[0], cells[1], *map(int, cells[2:8]), cells[8])  # type: ignore[arg-type]
    return out


def check(row: Row, graph: SkipGraph) -> None:
    """Fails, with both sets of counts, when a graph is not what the table says."""
    said = {
        "adds": row.adds, "proj": row.proj, "concats": row.concats, "gates": row.gates, "indices": row.indices,
        "long": row.long,
    }  # fmt: skip
    found = {
        "adds": graph.count("add"), "proj": graph.count("add", shortcut="projection"),
        "concats": graph.count("concat"), "gates": graph.count("gate"), "indices": graph.count("index"),
        "long": graph.count(long=True),
    }  # fmt: skip
    assert found == said, f"{row.model}: found {found}, the table says {said}: {row.why}"
    assert graph.unknown == (), f"{row.model}: ops without a rule {graph.unknown}"
