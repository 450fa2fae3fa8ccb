"""What is raced, at a size for two cores, each with the reference of its larger sibling."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        larger: the same at the size of one GPU, as words for ``skipgrad boost``.
    """

    name: str
    model: str
    data: str
    recipe: Recipe
    model_args: dict[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ("zero-init", "self-tune", "agc")
    tune_at_depth: int | None = None
    larger: str = ""


TEXT = Recipe(steps=80, batch_size=8, optimizer="adamw", lr=1e-3)
IMAGES = Recipe(steps=80, batch_size=32, optimizer="sgd", lr=0.05)

RACES = {
    race.name: race
    for race in (
        Race("postln", "skipgrad:postln8", "text", TEXT, larger="skipgrad:postln24 --data text --batch-size 64"),
        Race(
            "preln",
            "skipgrad:preln12",
            "text",
            TEXT,
            tune_at_depth=3,
            larger="skipgrad:preln48 --data text --batch-size 64 --tune-at-depth 3",
        ),
        Race("resnet", "skipgrad:resnet20", "digits", IMAGES, larger="torchvision:resnet50 --data cifar10:DIR"),
        Race(
            "resnet-no-norm",
            "skipgrad:resnet20",
            "digits",
            IMAGES,
            {"norm": "none"},
            larger="skipgrad:resnet110 --data cifar10:DIR --model-arg norm=none",
        ),
        Race(
            "plain",
            "skipgrad:plain20",
            "digits",
            IMAGES,
            remedies=("add-skips", "agc"),
            larger="skipgrad:plain56 --data cifar10:DIR",
        ),
        Race(
            "unet",
            "skipgrad:unet",
            "shapes",
            Recipe(steps=80, batch_size=8, optimizer="adamw", lr=1e-3),
            remedies=("scalelong", "agc"),
            larger="diffusers:UNet2DModel --data shapes",
        ),
    )
}
