"""Checkpoints: a state as a safetensors file with JSON in its header, written whole, never a pickle."""

from skipgrad.train.saving.checkpoint import CHECKPOINT, PREVIOUS, Checkpoints, Saved
from skipgrad.train.saving.lock import locked
from skipgrad.train.saving.weights import save_weights

__all__ = ["CHECKPOINT", "PREVIOUS", "Checkpoints", "Saved", "locked", "save_weights"]
