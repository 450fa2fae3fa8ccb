"""Activation checkpointing by skip: which blocks are computed again, from what they save and how long they take."""

from skipgrad.train.checkpointing.apply import Checkpointed
from skipgrad.train.checkpointing.choose import choose
from skipgrad.train.checkpointing.measure import Unit, measure
from skipgrad.train.checkpointing.plan import CheckpointPlan, checkpointed, plan_checkpoints

__all__ = ["CheckpointPlan", "Checkpointed", "Unit", "checkpointed", "choose", "measure", "plan_checkpoints"]
