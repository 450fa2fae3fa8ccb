"""Draws the gallery of the documentation: docs/images/gallery/*.svg and docs/gallery.md, from the models themselves.

    python benchmarks/gallery.py [NAME…]

Measures nothing; it lies here because it is run by hand, like the benchmarks, and wants every model library. With names
it draws these alone and leaves the page as it is. The page is written whole: edit the sentences here, not there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images" / "gallery"
PAGE = ROOT / "docs" / "gallery.md"
LARGEST = 150_000  # bytes of a drawing


@dataclass(frozen=True)
class Piece:
    """One drawing.

    Attributes:
        name: of the file.
        title: what people call the architecture.
        model: the reference.
        see: one sentence: what to look at.
        args: ``--model-arg`` words.
        input: ``--input``, when the model's own example is not wanted.
    """

    name: str
    title: str
    model: str
    see: str
    args: tuple[str, ...] = ()
    input: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The command below the drawing."""
        extra = [word for arg in self.args for word in ("--model-arg", arg)]
        shape = ["--input", self.input] if self.input else []
        return ("skipgrad", "find", self.model, *extra, *shape, "--format", "svg", "--out", f"{self.name}.svg")


PIECES = (
    Piece(
        "resnet152",
        "ResNet-152",
        "torchvision:resnet152",
        "Fifty short arcs in a row, one a bottleneck; only the four that change the shape have weights of their own.",
    ),
    Piece(
        "densenet121",
        "DenseNet-121",
        "torchvision:densenet121",
        "Each dense block is a list that grows: the number on an arc is how many tensors its concat joins, up to 25.",
    ),
    Piece(
        "unet",
        "U-Net on a ResNet-18",
        "smp:Unet",
        "Four long concats, one inside the other, over the short adds of the encoder; the outermost bypasses 25.",
    ),
    Piece(
        "unetplusplus",
        "U-Net++",
        "smp:UnetPlusPlus",
        "The same feet as the U-Net, but every level is joined again and again on the way to the decoder's end.",
    ),
    Piece(
        "fasterrcnn",
        "Faster R-CNN with a feature pyramid",
        "torchvision:fasterrcnn_resnet50_fpn",
        "Three long arcs with weights carry the backbone's stages into the pyramid: the lateral 1×1 convolutions.",
    ),
    Piece(
        "raft",
        "RAFT (small)",
        "torchvision:raft_small",
        "A recurrence unrolled: the update block comes back twelve times, each with the gate of its recurrent cell.",
    ),
    Piece(
        "gpt2",
        "GPT-2",
        "transformers:gpt2",
        "Two clean adds a block, attention and feed-forward part; nothing lies between one merge and the next fork.",
    ),
    Piece(
        "t5",
        "T5",
        "transformers:t5",
        "Two adds a block in the encoder, three in the decoder, where attention over the encoder comes in between.",
    ),
    Piece(
        "convnext",
        "ConvNeXt-T",
        "torchvision:convnext_tiny",
        "One add over three layers a block, and none over the downsampling between the stages: it cuts the stream.",
    ),
    Piece(
        "dpn68",
        "Dual path network (DPN-68)",
        "timm:dpn68",
        "Residual and dense at once: each block adds one slice of x and concatenates the other, hence arcs in pairs.",
    ),
    Piece(
        "efficientnet",
        "EfficientNet-B0",
        "torchvision:efficientnet_b0",
        "Only blocks that keep their shape have a skip: the first block of every stage goes without.",
    ),
    Piece(
        "diffusion-unet",
        "Diffusion U-Net",
        "diffusers:UNet2DModel",
        "Twelve long concats on top of 38 adds; all upward blocks need projections, since the concat widens their x.",
    ),
)

HEAD = """\
---
hide: [navigation, toc]
---
<!-- written by benchmarks/gallery.py -->

# Gallery

Architectures as skipgrad draws them, input to the left. A cell of the strip is a weighted layer, an arc a skip
connection over the layers it bypasses; the legend below each drawing says the rest. None needs weights; each takes a
few seconds. Click a drawing to open it alone: every arc and layer then says its name under the pointer.
"""


def draw(piece: Piece, folder: Path) -> Path:
    """Runs the command that the page shows."""
    command = [sys.executable, "-m", *piece.words]
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    path = folder / f"{piece.name}.svg"
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path.name} has {path.stat().st_size} bytes, more than {LARGEST}")
    return path


def section(piece: Piece) -> str:
    """The part of the page about one drawing."""
    image = f"images/gallery/{piece.name}.svg"
    return (
        f"\n## {piece.title}\n\n{piece.see}\n\n"
        f"[![{piece.title}: the network as a strip with its skip connections as arcs]({image})]({image})\n\n"
        f"    {' '.join(piece.words)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(p.name for p in PIECES))
    names = parser.parse_args().names
    unknown = {*names} - {p.name for p in PIECES}
    if unknown:
        parser.error(f"no drawing of that name: {', '.join(sorted(unknown))}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for piece in PIECES:
            if not names or piece.name in names:
                drawn = draw(piece, Path(folder))
                (IMAGES / drawn.name).write_bytes(drawn.read_bytes())
    if not names:
        PAGE.write_text(HEAD + "".join(map(section, PIECES)), encoding="utf-8")


if __name__ == "__main__":
    main()
