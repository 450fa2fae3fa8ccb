"""What is raced, at a size for two cores, each with the reference of its larger sibling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from skipgrad.core import Recipe


@dataclass(frozen=True)
class Race:
    """One workload.

    Attributes:
        name: of its folder and row.
        model: reference.
        data: reference.
        recipe: as a user would type it.
        model_args: of the model's constructor.
        remedies: the contestants.
        tune_at_depth: of the shallow sibling, where depth is raced.
        sick: whether it is a net that trains badly as it is (post-norm, without norms, plain).
        deep: whether it has 24 layers or more.
        larger: the same at the size of one GPU, as words for ``skipgrad boost``.
    """

    name: str
    model: str
    data: str
    recipe: Recipe
    model_args: dict[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ("zero-init", "auto", "agc")
    tune_at_depth: int | None = None
    sick: bool = False
    deep: bool = False
    larger: str = ""


DEPTH = "benchmarks/time_to_target/depth.py"
IN_ROWS = ("zero-init", "auto", "grow", "agc")  # for nets with blocks in a row
RIVALS = ("layer-drop", "hyper-connections")
UNRATED = ("zero-init", "auto", "grow", "prodigy", "agc")
SEQUENCES = Recipe(steps=120, batch_size=32, optimizer="adamw", lr=3e-3)
TEXT = Recipe(steps=80, batch_size=8, optimizer="adamw", lr=1e-3)
IMAGES = Recipe(steps=80, batch_size=32, optimizer="sgd", lr=0.05)

RACES = {
    race.name: race
    for race in (
        Race(
            "postln",
            "skipgrad:postln8",
            "text",
            TEXT,
            sick=True,
            remedies=UNRATED,
            larger="skipgrad:postln24 --data text --batch-size 64",
        ),
        Race(
            "preln",
            "skipgrad:preln12",
            "text",
            TEXT,
            tune_at_depth=3,
            deep=True,
            remedies=(*UNRATED, *RIVALS, "value-residual"),
            larger="skipgrad:preln48 --data text --batch-size 64 --tune-at-depth 3",
        ),
        Race(
            "resnet",
            "skipgrad:resnet20",
            "digits",
            IMAGES,
            remedies=UNRATED,
            larger="torchvision:resnet50 --data cifar10:DIR",
        ),
        Race(
            "resnet-no-norm",
            "skipgrad:resnet20",
            "digits",
            IMAGES,
            {"norm": "none"},
            sick=True,
            remedies=UNRATED,
            larger="skipgrad:resnet110 --data cifar10:DIR --model-arg norm=none",
        ),
        Race(
            "plain",
            "skipgrad:plain20",
            "digits",
            IMAGES,
            remedies=("add-skips", "auto", "agc"),
            sick=True,
            larger="skipgrad:plain56 --data cifar10:DIR",
        ),
        Race(
            "unet",
            "skipgrad:unet",
            "shapes",
            Recipe(steps=80, batch_size=8, optimizer="adamw", lr=1e-3),
            remedies=("scalelong", "auto", "agc"),
            larger="diffusers:UNet2DModel --data shapes",
        ),
        Race(
            "resnet56",
            "skipgrad:resnet56",
            "digits",
            replace(IMAGES, steps=60),
            tune_at_depth=20,
            deep=True,
            remedies=(*IN_ROWS, *RIVALS),
            larger="skipgrad:resnet110 --data cifar10:DIR --tune-at-depth 20",
        ),
        Race(
            "resnet56-no-norm",
            "skipgrad:resnet56",
            "digits",
            replace(IMAGES, steps=60),
            {"norm": "none"},
            tune_at_depth=20,
            sick=True,
            deep=True,
            remedies=IN_ROWS,
            larger="skipgrad:resnet110 --data cifar10:DIR --model-arg norm=none --tune-at-depth 20",
        ),
        Race(
            "postln12",
            "skipgrad:postln12",
            "text",
            TEXT,
            tune_at_depth=3,
            sick=True,
            deep=True,
            remedies=(*IN_ROWS, *RIVALS),
            larger="skipgrad:postln24 --data text --batch-size 64 --tune-at-depth 3",
        ),
        Race(
            "denoise",
            "skipgrad:unet",
            "denoise:digits",
            Recipe(steps=80, batch_size=32, optimizer="adamw", lr=3e-3),
            {"in_channels": 2, "num_classes": 1},
            remedies=("scalelong", "auto", "agc"),
            larger="diffusers:UNet2DModel --data denoise:cifar10:DIR",
        ),
        Race(
            "densenet",
            "skipgrad:densenet22",
            "digits",
            IMAGES,
            remedies=("auto", "agc"),
            larger="torchvision:densenet121 --data cifar10:DIR",
        ),
        Race(
            "latch",
            f"{DEPTH}:Sequence",
            f"{DEPTH}:latch",
            SEQUENCES,
            tune_at_depth=8,
            deep=True,
            remedies=IN_ROWS,
            larger="the same with --model-arg num_blocks=64 --model-arg width=64",
        ),
        Race(
            "parity",
            f"{DEPTH}:Sequence",
            f"{DEPTH}:parity",
            SEQUENCES,
            tune_at_depth=8,
            deep=True,
            remedies=IN_ROWS,
            larger="the same with --model-arg num_blocks=64 --model-arg width=64",
        ),
        Race(
            "torchvision",
            "torchvision:resnet18",
            "digits",
            Recipe(steps=40, batch_size=16, optimizer="sgd", lr=0.01),
            larger="torchvision:resnet50 --data imagefolder:DIR",
        ),
        Race(
            "gpt2",
            "transformers:gpt2",
            "text",
            TEXT,
            {"n_layer": 6, "n_embd": 64, "n_head": 4},
            tune_at_depth=2,
            remedies=(*IN_ROWS, *RIVALS, "value-residual"),
            larger="transformers:gpt2 --data text:FILE --batch-size 32 --tune-at-depth 3",
        ),
    )
}
