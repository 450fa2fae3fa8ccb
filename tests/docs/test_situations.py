"""Each page of docs/situations says what skipgrad says: its code is run, and the lines that matter are compared.

``pytest tests/docs --snapshot-update`` writes what came out into the pages – read the difference before you commit it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.situations import PAGES, blocks, outcomes, with_blocks

# Of each output, in order, what must be in it: the shape of the answer, not a machine's digits.
ESSENTIAL: dict[str, list[list[str]]] = {
    "early-layers": [
        [
            r"^SG001 error – The first layers get \S+e-0[78] of the gradient of the last ones: a factor of 0\.4",
            r"bridge the layers with skip connections",
            r"^SG003 error – In 1\d of 21 layers .* of the weights ignore a step",
            r"^SG004 info – 21 weighted layers in a row, 0 to 40, have no skip over them",
        ],
        [r"^the first layer gets \d\.\de[+-]0[012] of the last one's gradient$"],
    ],
    "unet-bottleneck": [
        [
            r"^up3: \d+\.\d% of",
            r"^up2: [0-2]\.\d% of",
            r"^up1: [0-2]\.\d% of the gradient comes from the levels below$",
            r"^SG005 found info – At \d of 3 nested long skips less than 0\.25 % of the gradient's energy comes",
            r"^SG008 passed info – the outermost of 3 nested long skips carries \d+",
        ],
        [
            r"^without middle the loss is (0\.9|1\.0)\d times",
            r"^without down1\.convs the loss is ([5-9]|\d\d+)\.\d\d times",
        ],
    ],
    "post-ln": [
        [
            r"^SG007 \w+ – A norm lies between the skips at 23 places",
            r"along 24 shortcuts in a row it comes to 0\.\d+×: Post-LN",
            r"Such nets want warm-up",
        ]
    ],
    "nan": [
        [
            r"^10 steps: .*SG010$",
            r"^From step 1 on the activation at .+ is not finite",
            r"^1 steps: SG002, SG009$",
            r"^x grows by a factor of 1\.\d+ per block, [\d,]+× over 15 skips",
        ],
        [r"^with zero-init: from 2\.\d+ to 1\.\d+ in 10 steps at the same rate$"],
    ],
    "idle-blocks": [
        [
            r"^found warning – 6 of 6 branches .* add less than 1 % to their skip, forward and backward",
            r"^1: F/x \de-0[4-9], B/S \de-0[4-9]$",
        ]
    ],
    "no-gradient": [
        [
            r"^found \('side',\)$",
            r"^1 layer of 4 \(side\) ran and never got a gradient",
            r"^never called: \['spare'\]$",
            r"^parameters without \.grad: \['side\.weight', 'side\.bias', 'spare\.weight', 'spare\.bias'\]$",
        ]
    ],
    "loops": [
        [
            r"^own loop: 12 rows of 4 skips$",
            r"^Lightning: 12 rows of 4 skips$",
            r"^Trainer: 12 rows of 4 skips$",
            r"^Accelerate: 12 rows of 4 skips$",
        ]
    ],
    "ddp-fsdp": [
        [
            r"^DDP \['1', '1#2', '2', '2#2'\] of the whole batch:$",
            r"^  skip gradient \S+, on this rank \S+$",
            r"^FSDP2 \['1', '1#2', '2', '2#2'\] of the whole batch:$",
            r"^  findings: \['SG007'\]$",
        ]
    ],
    "compile": [[r"^1: skip gradient \S+, the same as without compiling: True$", r"^2#2: .*: True$"]],
    "ci": [
        [r"^skipgrad: --fail-on error: SG001 \(error\), SG003 \(error\)$", r"^status 3$"],
        [r"^9 skips, as designed$"],
    ],
}
SLOW = ("loops", "ddp-fsdp", "compile", "ci", "post-ln", "early-layers", "unet-bottleneck", "idle-blocks")


def pages() -> list[str]:
    return sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "index")


def test_every_page_is_here_and_listed() -> None:
    assert pages() == sorted(ESSENTIAL)
    index = (PAGES / "index.md").read_text("utf-8")
    assert [name for name in pages() if f"({name}.md)" not in index] == []


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in pages()])
def test_what_a_page_prints_is_what_comes(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = PAGES / f"{name}.md"
    page = path.read_text("utf-8")
    came = outcomes(page, tmp_path)
    if request.config.getoption("update_snapshots", False):
        path.write_text(with_blocks(page, came), "utf-8")
    wanted = ESSENTIAL[name]
    printed = blocks(path.read_text("utf-8"))
    assert len(came) == len(printed) == len(wanted)
    for patterns, fresh, shown in zip(wanted, came, printed, strict=True):
        for pattern in patterns:
            assert re.search(pattern, fresh, re.MULTILINE), f"{pattern}\nis not in what came out:\n{fresh}"
            assert re.search(pattern, shown, re.MULTILINE), f"{pattern}\nis not on the page:\n{shown}"


@pytest.mark.parametrize("name", pages())
def test_a_page_is_short_and_says_when_it_is_wrong(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text("utf-8")
    assert "## When it is wrong" in page or "## What it does not see" in page
    assert len(page.splitlines()) < 130
