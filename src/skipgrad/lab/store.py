"""The results of the lab on disk: a file a claim and seed, written whole, read back and judged anew. No torch."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipgrad.core.errors import BadInput
from skipgrad.core.files import write_text
from skipgrad.lab.claim import Claim, Scale, Values, Verdict

SCHEMA = 1
FOLDER = "skipgrad-lab"
DOING = "keeping a result of the lab"


@dataclass(frozen=True)
class Result:
    """What one seed of a claim showed, and where.

    Attributes:
        claim: id of the claim.
        seed: the seed.
        values: its figures.
        seconds: wall time.
        quick, scale: which version of the experiment.
        protocol: of the claim.
        model: reference of the user's own model, empty for the claim's nets.
        version: of skipgrad.
        machine: processor, Python and torch, in one line.
    """

    claim: str
    seed: int
    values: Values
    seconds: float
    quick: bool = False
    scale: Scale = "two-cores"
    protocol: int = 1
    model: str = ""
    version: str = ""
    machine: str = ""


class Store:
    """A folder of results. Results of another protocol or version stay where they are and are not mixed in.

    Args:
        folder: made when it is not there.
        version: of skipgrad; results of another one are left out.
    """

    def __init__(self, folder: str | Path, version: str) -> None:
        self.folder, self.version = Path(folder), version
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(DOING, where=str(folder), received="a file", todo="name a folder: --out DIR")

    def write(self, result: Result) -> Path:
        """Keeps a result; raises `OutputError` when it cannot be written, and leaves an earlier one intact."""
        path = self._path(result)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"schema": SCHEMA, **vars(result), "values": {k: _packed(v) for k, v in result.values.items()}}
        return write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n", doing=DOING)

    def read(
        self, claim: Claim, *, quick: bool = False, scale: Scale = "two-cores", model: str = ""
    ) -> dict[int, Result]:
        """The results of one claim by seed: of this version, this protocol, this setting."""
        wanted = (quick, scale, claim.protocol, model, self.version)
        found = [r for r in self._all(claim.id) if (r.quick, r.scale, r.protocol, r.model, r.version) == wanted]
        return {r.seed: r for r in found}

    def verdict(self, claim: Claim) -> Verdict | None:
        """The last verdict: of the full version where every seed of the claim's own is there, else of the quick one."""
        for quick in (False, True):
            found = self.read(claim, quick=quick)
            if found and set(claim.seeds) <= set(found):
                seconds = sum(r.seconds for r in found.values())
                return claim.verdict({s: r.values for s, r in found.items()}, quick=quick, seconds=seconds)
        return None

    def on_models(self, claim: Claim) -> list[Verdict]:
        """What the claim's experiment measured on models of the user's own, each once: in full where that is there."""
        if claim.on_model is None:
            return []
        found: dict[tuple[str, bool], dict[int, Result]] = {}
        for r in self._all(claim.id):
            if r.model and (r.protocol, r.version) == (claim.protocol, self.version):
                found.setdefault((r.model, r.quick), {})[r.seed] = r
        return [
            claim.measured(
                {s: r.values for s, r in seeds.items()},
                model,
                quick=quick,
                seconds=sum(r.seconds for r in seeds.values()),
            )
            for (model, quick), seeds in sorted(found.items())
            if not (quick and (model, False) in found)
        ]

    def others(self, claim: Claim) -> list[Result]:
        """Results of the claim that another version or protocol made."""
        return [r for r in self._all(claim.id) if (r.protocol, r.version) != (claim.protocol, self.version)]

    def _path(self, r: Result) -> Path:
        kind = f"{r.scale}{'-quick' if r.quick else ''}"
        if r.model:
            kind += f"-{hashlib.sha256(r.model.encode()).hexdigest()[:8]}"
        return self.folder / r.claim.lower() / f"{kind}-{r.version or 'unknown'}-p{r.protocol}-seed{r.seed}.json"

    def _all(self, claim: str) -> Iterator[Result]:
        for path in sorted((self.folder / claim.lower()).glob("*.json")):
            try:
                data: dict[str, Any] = json.loads(path.read_text("utf-8"))
                if data.pop("schema") != SCHEMA:
                    continue
                data["values"] = {k: _unpacked(v) for k, v in data["values"].items()}
                yield Result(**data)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise BadInput(
                    "reading results of the lab",
                    where=str(path),
                    received=f"a file that is no result ({error})",
                    todo="move it away, or name another folder: --out DIR",
                ) from error


def machine(torch_version: str) -> str:
    """This machine in a line."""
    return f"{platform.machine()}, Python {platform.python_version()}, torch {torch_version}"


def _packed(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # strict JSON has no infinities


def _unpacked(value: float | str) -> float:
    return float(value)
