"""Writes the pages of the lab, docs/lab/*.md, and their pictures, from what the claims state and what was measured.

    skipgrad lab --all --threads 1 --out benchmarks/results/lab   # measures; resumes where it was
    python benchmarks/lab.py                                      # writes the pages

Nothing is measured here. Pages that begin without the mark below are written by hand and left alone. tests/docs holds
the written ones to the claims and to the results.
"""

from __future__ import annotations

from pathlib import Path

from skipgrad import __version__
from skipgrad.core.units import number, seconds
from skipgrad.lab import CLAIMS, Claim, Store, Verdict
from skipgrad.lab.draw import legend, svg

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "lab"
RESULTS = ROOT / "benchmarks" / "results" / "lab"
MARK = "<!-- written by benchmarks/lab.py -->\n"
STYLE = (
    "<style>svg{font:12px system-ui,sans-serif;--ink:#222;--soft:#555;--rule:#ddd;--bad:#9a3412;--a:#1f5fbf;"
    "--b:#b4530a;--c:#6b4fa0;--d:#3f6b1f;background:#fff}text{fill:var(--soft)}.rule{stroke:var(--rule)}"
    ".median{stroke:var(--ink);stroke-width:2}.bound{stroke:var(--bad);stroke-dasharray:5 4}</style>"
)


def page(claim: Claim, verdict: Verdict | None, machine: str) -> str:
    """The page of a claim."""
    parts = [f"{MARK}\n# {claim.id}: {claim.title}\n"]
    parts += [f"**Claim.** {claim.statement}\n", f"**Experiment.** {claim.setting[0].upper()}{claim.setting[1:]}.\n"]
    parts += [f"**Criterion.** {claim.criterion[0].upper()}{claim.criterion[1:]}, on every seed.\n"]
    parts += [
        f"**What would refute it.** {claim.refutes[0].upper()}{claim.refutes[1:]}.\n",
        f"**Literature.** {claim.anchor}.\n",
    ]
    if verdict is None:
        parts.append(f"**Measured here.** Not yet: `skipgrad lab {claim.id}`.\n")
    else:
        quick = ", quick version" if verdict.quick else ""
        parts.append(f"**Measured here** ({len(verdict.figures)} seeds{quick}): *{verdict.state}*. {verdict.reason}\n")
        if verdict.effect is not None:
            e = verdict.effect
            parts.append(
                f"Effect: {e.name} {number(e.mean)}, 95 % interval of the mean {number(e.low)} to {number(e.high)}.\n"
            )
        if svg(claim.picture(verdict.figures), claim.title):
            parts.append(f"![{claim.title}](images/{claim.id.lower()}.svg)\n")
            keys = legend(claim.picture(verdict.figures))
            if claim.picture(verdict.figures).kind == "contour":
                parts.append(f"Seed {verdict.figures[0].seed}; the cross is at the trained weights.\n")
            elif claim.picture(verdict.figures).kind == "dots":
                parts.append(
                    "; ".join(f"{mark}: {words}" for mark, words in keys) + ". A dot a seed, the bar their median.\n"
                )
            else:
                parts.append("Lines from the first colour on: " + "; ".join(words for _, words in keys) + ".\n")
        parts.append(table(verdict))
        parts.append(f"`benchmarks/results/lab`, made by `skipgrad lab {claim.id} --threads 1`: {machine}; ")
        parts[-1] += f"{seconds(verdict.seconds)} for all seeds, beside other work.\n"
    if claim.caution:
        parts.append(f"**Caution.** {claim.caution}\n")
    own = f"`skipgrad lab {claim.id} --model MODEL --data DATA` asks it of your model" if claim.on_model else ""
    parts.append(f"**On your model.** {own or f'Not asked: {claim.not_on_model}'}.\n")
    return "\n".join(parts)


def table(verdict: Verdict) -> str:
    """The figures of every seed; long curves are in the picture and the results, and left out here."""
    names = list(verdict.figures[0].values)
    names = [n for n in names if " over x=" not in n and "at=" not in n and "age=" not in n and "at length" not in n][
        :16
    ]
    answers = {True: "holds", False: "does not hold", None: "cannot tell"}
    head = "| figure | " + " | ".join(f"seed {f.seed}: {answers[f.holds]}" for f in verdict.figures) + " |"
    rows = [
        f"| {n.replace('|', '&#124;')} | " + " | ".join(number(f.values[n]) for f in verdict.figures) + " |"
        for n in names
    ]
    return "\n".join([head, "|---" * (1 + len(verdict.figures)) + "|", *rows]) + "\n"


def texts() -> dict[str, str]:
    """Every page and picture by its path below docs/lab."""
    store = Store(RESULTS, __version__)
    out: dict[str, str] = {}
    for name in CLAIMS.built_in:
        claim = CLAIMS.get(name)
        path = f"{name.lower()}.md"
        if (DOCS / path).is_file() and not (DOCS / path).read_text("utf-8").startswith(MARK):
            continue
        verdict = store.verdict(claim)
        results = {} if verdict is None else store.read(claim, quick=verdict.quick)
        machine = next((r.machine for r in results.values()), "")
        out[path] = page(claim, verdict, machine)
        drawing = svg(claim.picture(verdict.figures), claim.title) if verdict is not None else ""
        if drawing:
            opening, _, rest = drawing.partition(">")
            out[f"images/{name.lower()}.svg"] = f'{opening} xmlns="http://www.w3.org/2000/svg">{STYLE}{rest}\n'
    return out


def main() -> None:
    (DOCS / "images").mkdir(exist_ok=True)
    for path, text in texts().items():
        (DOCS / path).write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
