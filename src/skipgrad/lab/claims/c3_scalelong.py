"""C3: long skips times κ^(i−1) make a denoising U-Net steadier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, pstdev

import torch
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import Workload, fit
from skipgrad.race import final_loss
from skipgrad.remedies import remedy
from skipgrad.train import settle, train_trial

KAPPA, NORM, BATCH, STEPS, QUICK_STEPS, RATE, DRAWS = 0.5, "none", 64, 200, 60, 3e-3, 8
WORSE, LEARNED = 1.1, 0.9


class Scaled:
    """A workload whose nets get their long skips scaled by the remedy; κ = 1 leaves them as they are."""

    def __init__(self, inner: Workload, kappa: float) -> None:
        self.inner, self.kappa = inner, kappa
        self.name, self.task = f"{inner.name}, κ = {kappa:g}", inner.task
        self.example, self.batches, self.loss = inner.example, inner.batches, inner.loss

    def build(self) -> nn.Module:
        """A net in training mode, its long skips scaled."""
        model = self.inner.build()
        if self.kappa < 1:
            remedy("scalelong", kappa=self.kappa).treat(model, find(model, *self.example.args))
        return model
