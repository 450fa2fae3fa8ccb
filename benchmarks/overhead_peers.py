"""The peers that overhead.py puts around a training step: torchlens, wandb, cockpit; each imported when it is used."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
import torch.nn.functional as F
from overhead_variants import Variant, logits
from torch import nn


class TorchlensWatch(Variant):
    """``torchlens.trackers.watch`` of the parameters' gradients at every step, into memory."""

    def enter(self) -> None:
        from torchlens import trackers

        self.sink = trackers.MemorySink()
        self.session = trackers.watch(
            self.model, to=self.sink, optimizer=self.optimizer, step=lambda: self.steps, every=1, hist_every=None
        )

    def gave(self) -> str:
        return f"{len(self.sink.scalars)} figures in {self.steps} steps"

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.session.close()


class TorchlensTrace(Variant):
    """``torchlens.trace`` of every forward with gradients saved, and its ``log_backward``."""

    def train(self) -> None:
        import torchlens

        self.log: Any = None  # the last one goes before there is a new one
        self.optimizer.zero_grad()
        self.log = torchlens.trace(self.model, self.x, capture=torchlens.options.CaptureOptions(save_grads=True))
        out = logits(self.log[self.log.output_layers[0]].out)
        self.log.log_backward(F.cross_entropy(out, self.y))
        self.optimizer.step()

    def gave(self) -> str:
        return f"{len(self.log.ops)} ops, gradients of {sum(bool(op.has_grad) for op in self.log.ops)}"


class WandbLog(Variant):
    """``wandb.log`` of one number a step, nothing watched: what a user of wandb pays anyway."""

    def enter(self) -> None:
        import wandb

        self.wandb: Any = wandb
        if wandb.run is None:
            wandb.init(project="overhead", mode="offline", dir=os.environ.get("WANDB_DIR"))

    def train(self) -> None:
        super().train()
        self.wandb.log({type(self).__name__: float(self.steps)})

    def close(self) -> None:
        self.wandb.finish()


class WandbWatch(WandbLog):
    """The same with ``wandb.watch(model, log="gradients", log_freq=1)``."""

    def enter(self) -> None:
        super().enter()
        self.wandb.watch(self.model, log="gradients", log_freq=1)

    def gave(self) -> str:
        return f"histograms of {len(list(self.model.parameters()))} gradients a step"


class CockpitNorms(Variant):
    """cockpit with its gradient norms alone, tracked at every step."""

    def quantities(self) -> list[Any]:
        """What cockpit is to track; may replace the model by one it can extend."""
        from cockpit import quantities  # pyright: ignore[reportMissingImports]

        return [quantities.GradNorm(track_schedule=lambda step: True)]

    def enter(self) -> None:
        from backpack import extend  # pyright: ignore[reportMissingImports]
        from cockpit import Cockpit  # pyright: ignore[reportMissingImports]

        tracked = self.quantities()
        self.call = self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.cockpit = Cockpit(self.model.parameters(), quantities=tracked)
        self.mean: Any = extend(nn.CrossEntropyLoss())
        self.each = nn.CrossEntropyLoss(reduction="none")

    def train(self) -> None:
        self.optimizer.zero_grad()
        out = self.forward()
        loss, each = self.mean(out, self.y), self.each(out, self.y)
        told = {"batch_size": len(self.y), "individual_losses": each, "loss": loss, "optimizer": self.optimizer}
        with self.cockpit(self.steps, info=told):
            loss.backward(create_graph=self.cockpit.create_graph(self.steps))
        self.optimizer.step()

    def gave(self) -> str:
        return f"cockpit's quantities: {len(self.cockpit.quantities)}"


class CockpitEconomy(CockpitNorms):
    """cockpit in its configuration "economy", through BackPACK's converter."""

    def quantities(self) -> list[Any]:
        from backpack import extend  # pyright: ignore[reportMissingImports]
        from cockpit.utils.configuration import configuration  # pyright: ignore[reportMissingImports]

        self.model = extend(self.model, use_converter=True)
        self.model.train()
        return configuration("economy")
