"""How well a detector finds what is there: COCO's mean average precision, by torchmetrics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from skipgrad.core.extras import wanted


class Detections:
    """Detections beside what was there, until they are scored.

    Raises:
        MissingExtra: torchmetrics or pycocotools is not installed.
    """

    def __init__(self) -> None:
        with wanted("detection", "scoring a detector"):
            import pycocotools  # noqa: F401
            from torchmetrics.detection import MeanAveragePrecision
        self._metric: Any = MeanAveragePrecision(backend="pycocotools")

    def add(self, detections: Sequence[dict[str, Any]], targets: Sequence[dict[str, Any]]) -> None:
        """Adds images: what a detector returned (boxes, scores, labels), and what is on them (boxes, labels)."""
        self._metric.update(list(detections), list(targets))

    def figures(self) -> dict[str, float]:
        """``map``, the mean over IoU .5 to .95, and ``map_50``, that at IoU .5; from 0 to 1."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a net that detects nothing: the score says so
            got = self._metric.compute()
        return {"map": max(0.0, float(got["map"])), "map_50": max(0.0, float(got["map_50"]))}
