"""``digits``: scikit-learn's 1,797 handwritten digits, 8×8 pixels."""

from __future__ import annotations

from typing import Any

import torch

from skipgrad.core.extras import wanted
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource, from_tensors, standardise


def load(ref: str = "digits") -> DataSource:
    """(1797, 1, 8, 8) float32, standardised over all pixels, and ten classes.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    with wanted("data", f"loading the data {ref!r}, which scikit-learn brings"):
        from sklearn.datasets import load_digits
    raw: Any = load_digits()
    x = standardise(torch.tensor(raw["images"], dtype=torch.float32)[:, None])
    y = torch.tensor(raw["target"], dtype=torch.long)
    about = f"{len(x):,} handwritten digits of 8×8 pixels in ten classes (scikit-learn)"
    return from_tensors(ref, "classification", x, y, classes=10, about=about)


DATA.register("digits", DataEntry(load, "digits", extra="data", package="scikit-learn"))
