"""A training as a thing whose state can be saved: model, optimizer, rates, averages, random numbers."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from skipgrad.core import SkipGraph
from skipgrad.core.recipe import OptimizerName, Precision, Recipe
from skipgrad.core.training import TrainingRecipe
from skipgrad.instrument.seeding import random_state, seed_all, set_random_state
from skipgrad.train.aids.drops import DropRates
from skipgrad.train.aids.elastic import ElasticNet
from skipgrad.train.aids.ema import EMA
from skipgrad.train.checkpointing import Checkpointed, checkpointed
from skipgrad.train.group import Group
from skipgrad.train.optimizers import make_optimizer
from skipgrad.train.precision import scaler
from skipgrad.train.protocols import Prepare, WorkloadLike
from skipgrad.train.schedule import Rates

# Added to the seed once the model is prepared, so that a remedy which draws random numbers does not change the
# dropout masks that patient and cure see.
AFTER_PREPARE = 1_000_003
RANK, STEP = 7919, 104_729  # so that processes, and steps where they begin anew, draw different numbers


class Session:
    """What a training changes from step to step. Made in three calls, in this order: `__init__`, `prepare`, `equip`.

    Args:
        workload: model, data and loss.
        recipe: a recipe in which optimizer and rate are settled.
        device: where it is trained.
        group: the processes that train together.

    Attributes:
        model: what is called: compiled, or in DistributedDataParallel, where that is asked for.
        optimizer: PyTorch's.
        treatment: the remedy in force, or None.
        checkpointing: which blocks are computed again, or None.
        ema: the running mean of the weights, or None.
        scaler: the gradient scaler; does nothing unless the format is float16.
    """

    def __init__(
        self, workload: WorkloadLike, recipe: Recipe, device: torch.device, group: Group | None = None
    ) -> None:
        self.workload, self.recipe, self.device = workload, TrainingRecipe.of(recipe), device
        self.group = group or Group()
        self.treatment: Any = None
        self.checkpointing: Checkpointed | None = None
        seed_all(recipe.seed)
        model = workload.build().to(device).train()
        # What is compiled is what remedies and observers get: they watch the object that is called. It compiles at its
        # first call, so a remedy's edit is in it.
        if recipe.compile:
            model = cast(nn.Module, torch.compile(model))
        self.model: nn.Module = model

    def prepare(self, prepare: Prepare | None) -> None:
        """Applies a remedy to the fresh model."""
        self.treatment = prepare(self.model) if prepare is not None else None

    def equip(self, graph: SkipGraph | None = None) -> None:
        """Spreads the model over the processes and makes the optimizer.

        Args:
            graph: the model's skips, where they are known: checkpointing then goes by blocks.
        """
        recipe = self.recipe
        if recipe.checkpointing is not None:
            example = self.workload.example.to(self.device)
            inputs = {"memory": recipe.checkpointing, **example.kwargs}
            self.checkpointing = checkpointed(self.model, graph, *example.args, **inputs)
        self.model = self.group.wrap(self.model)
        self.model.train()
        own = getattr(self.treatment, "optimizer", None)
        if own is not None:
            self.optimizer: torch.optim.Optimizer = own(self.model.parameters(), recipe.weight_decay)
            return
        self.optimizer = make_optimizer(
            cast(OptimizerName, recipe.optimizer),
            self.model.parameters(),
            recipe.rate,
            recipe.weight_decay,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            betas=recipe.betas,
        )

    def start(self) -> None:
        """The remedy meets the optimizer, and the random numbers of the training begin."""
        recipe = self.recipe
        if self.treatment is not None:
            self.treatment.attach(self.optimizer)
            if self.steered:
                self.treatment.lasts(recipe.steps)
        seed_all(recipe.seed + AFTER_PREPARE + RANK * self.group.rank)
        more = {"milestones": recipe.milestones, "gamma": recipe.gamma, "decay": recipe.decay}
        self.rates = Rates(self.optimizer, recipe.steps, recipe.warmup, recipe.schedule, **more)
        self.precision: Precision = cast(Precision, recipe.precision)
        self.scaler = scaler(self.precision, self.device)
        self.ema = EMA(self.model, recipe.ema) if recipe.ema else None
        self.elastic = ElasticNet(self.optimizer, recipe.l1, recipe.l2) if recipe.l1 or recipe.l2 else None
        dropping = recipe.drop_schedule != "constant"
        self.drops = DropRates(self.model, recipe.steps, recipe.drop_schedule) if dropping else None

    @property
    def steered(self) -> bool:
        """Whether the treatment goes by the loss, which it is then told after each step."""
        return hasattr(self.treatment, "lasts")

    @property
    def evaluated(self) -> nn.Module:
        """The model to evaluate: with the mean of the weights where there is one."""
        return self.model if self.ema is None else self.ema.model

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, between two optimizer steps; tensors are not copied.

        The data's order is a function of the seed and the step, and the rates' and drop rates' of the step.
        """
        model, optimizer = self.group.states(self.model, self.optimizer)
        state: dict[str, Any] = {
            "model": model,
            "optimizer": optimizer,
            "rates": self.rates.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": self.group.gathered(random_state(self.device)),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        remembers = getattr(self.treatment, "state_dict", None)
        if remembers is not None:
            state["treatment"] = remembers()
        return state

    def load_state_dict(self, state: dict[str, Any], step: int = 0) -> None:
        """Goes on from there, on a session made with the same workload and recipe.

        With another number of processes random numbers begin anew, from the seed and the step.
        """
        self.group.load(self.model, self.optimizer, state["model"], state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if "treatment" in state:
            self.treatment.load_state_dict(state["treatment"])
        drawn, group = state["random"], self.group
        if len(drawn) == group.world:
            set_random_state(drawn[group.rank], self.device)
        else:
            seed_all(self.recipe.seed + AFTER_PREPARE + RANK * group.rank + STEP * step)
