"""Writes the pages of the forms of skip connection, docs/forms/*.md, and their pictures, from what their entries state.

    python benchmarks/forms.py

Measures nothing; it lies here because it is run by hand. The pages are written whole: edit the entries, in
src/skipgrad/blocks/forms, not the pages. tests/docs holds the pages to the entries.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import skipgrad as sg
from skipgrad.blocks.forms import FORMS, FormEntry
from skipgrad.core.draw.svg import svg

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARK = "<!-- written by benchmarks/forms.py -->\n\n"

INDEX = """# Forms of skip connection

Every form is a module of `skipgrad.blocks.forms` that wraps any branch, reads like its formula and nests. One
conformity suite holds each to its entry: `find` answers exactly what the page says, S and B are those of autograd in
float64, the function at the start is the one stated, bit for bit; eager and compiled agree; it runs under autocast and
checkpointing and stays finite in bfloat16.

    from torch import nn
    from skipgrad.blocks.forms import FORMS, LayerScale, LongSkip

    block = LayerScale(nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64)), channels=64, init_values=1e-5)
    FORMS.get("layerscale").formula

Which weights to keep out of weight decay – scales, norms, biases, mixing weights – says `skipgrad.param_groups(model,
weight_decay=0.1)`. Other packages add forms by the entry point `skipgrad.forms`.

| form | formula | at the start | held against | `fullgraph=True` |
|---|---|---|---|---|
"""

MEASURED = """
## Measured

One thread of a quiet machine; median of 15 interleaved rounds against the first named, quartiles in
brackets. All of it, with what the noise was, is in `benchmarks/results/2026-11-29-step.txt` and
`benchmarks/results/2026-11-29-memory.txt`; `benchmarks/step.py` and `memory.py` repeat it.

| what | against | a step takes |
|---|---|---|
| ResNet-56 | timm's blocks | 1.02 × (0.98 – 1.06) |
| ResNet-50 | torchvision's | 1.00 × (0.97 – 1.05) |
| Pre-LN transformer, 12 layers | x-transformers | 0.92 × (0.89 – 1.01) |
| stochastic depth, `survival_prob=0.7`, 12 feed-forward blocks | timm's DropPath at .3 | 0.73 × (0.70 – 0.78) |
| hyper-connections, n = 4 | plain residual | 1.19 × (1.16 – 1.24) |
| mHC, n = 4 | plain residual | 1.42 × (1.37 – 1.50) |
| mHC, n = 4, dynamic | plain residual | 2.97 × (2.91 – 3.12) |
| reversible, 10 blocks of convolutions | the same, plain backward | 1.48 × (1.33 – 1.57) |
| DenseNet-BC-100, `memory_efficient` | the same, plainly | 1.11 × (1.07 – 1.19) |
| torchvision's DenseNet of that shape, `memory_efficient` | ours, plainly | 1.24 × (1.17 – 1.28) |

Compiled, the same three nets took 0.97 × (0.90 – 1.11), 1.03 × (0.98 – 1.05) and 1.00 × (0.97 – 1.03)
(`benchmarks/results/2026-11-29-step-compiled.txt`, `benchmarks/step.py --compiled`).

The noise (the first variant against itself) is some 3 %: the nets are as fast as their peers within it. A goal of 1.5 ×
for reversible blocks is met by the median and not by its whole interval, one of 1.1 × for the dense block is neither
met nor missed. What the forward keeps for the backward: of 100 reversible blocks as much as of 10 (1.0 MiB, where the
plain backward keeps 20 and 200); of DenseNet-BC from depth 40 to 190 it grows with the depth to the power 1.02,
plainly 1.63.
"""


class _Input(nn.Module):
    """Something in front, so that the fork is an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


def index() -> str:
    """The index: a line a form."""
    rows = []
    for name, entry in ours():
        outside = entry.outside or "–"
        whole = "yes" if not entry.breaks else "not everywhere"
        rows.append(f"| [{name}]({name}.md) | `{entry.formula}` | {entry.start} | {outside} | {whole} |\n")
    without = [name for name, entry in ours() if not entry.outside]
    tail = (
        "\n“Held against” names implementations elsewhere whose output the tests compare with, their weights copied\n"
        f"over. There is none installed for {', '.join(without)}.\n"
    )
    return MARK + INDEX + "".join(rows) + tail + MEASURED


def page(name: str, entry: FormEntry) -> str:
    """The page of a form."""
    lines = [
        f"# {entry.title} (`{name}`)\n",
        f"    {entry.formula}\n",
        f"{entry.paper}.\n",
        f"![The example of `{name}` as skipgrad draws it](../images/forms/{name}.svg)\n",
        f"**Built by** `skipgrad.blocks.forms.{signature(entry.build)}`\n",
        f"**Shapes.** {entry.shapes}.\n",
        f"**At the start** it computes {entry.start}.\n",
        f"**When to use it.** {entry.when}\n",
        f"**Cost.** {sentence(entry.cost)}\n",
        f"**What `find` answers** on a small example: {seen(entry)}. {entry.sees}".rstrip() + "\n",
    ]
    compiled = f"The graph breaks {entry.breaks}" if entry.breaks else "In one graph (`fullgraph=True`)"
    lines.append(f"**Compiled.** {compiled.rstrip('.')}.\n")
    outside = entry.outside or "nothing: no implementation of it is installed here"
    lines.append(f"**Held against** {outside}.\n")
    return MARK + "\n".join(lines) + "\n[All forms](index.md)\n"


def signature(build: type) -> str:
    """Name and arguments of a class, as one writes them."""
    words = []
    parameters = list(inspect.signature(build).parameters.values())
    keyword = False
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not keyword:
            words.append("*")
            keyword = True
        words.append(p.name if p.default is p.empty else f"{p.name}={p.default!r}")
    return f"{build.__name__}({', '.join(words)})"


def seen(entry: FormEntry) -> str:
    """The skips it finds, in words."""
    if not entry.finds:
        return "no skip"
    words = []
    for s in entry.finds:
        length = "long" if s.long else "short"
        joined = f", {s.fan_in} operands" if s.fan_in > 2 else ""
        layers = "one layer" if s.span == 1 else f"{s.span} layers"
        words.append(f"a {length} {s.kind} with {article(s.shortcut)} shortcut over {layers}{joined}")
    return "; ".join(words)


def article(word: str) -> str:
    """``an identity``, ``a pool``."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def sentence(words: str) -> str:
    """Words as a sentence."""
    return words[0].upper() + words[1:].rstrip(".") + "."


def picture(name: str, entry: FormEntry) -> str:
    """The drawing of the example."""
    torch.manual_seed(0)
    graph = sg.find(nn.Sequential(_Input(), entry.example()), torch.empty(entry.shape))
    return svg(replace(graph, model=entry.title))


def ours() -> list[tuple[str, FormEntry]]:
    """Names and entries of skipgrad's own."""
    return [(name, FORMS.get(name)) for name in FORMS.built_in]


def texts() -> dict[str, str]:
    """What is written, by its path below docs/."""
    written = {"forms/index.md": index()}
    for name, entry in ours():
        written[f"forms/{name}.md"] = page(name, entry)
        written[f"images/forms/{name}.svg"] = picture(name, entry)
    return written


def main() -> None:
    for path, text in texts().items():
        (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
