"""The built-in nets."""

from skipgrad.models.nets.registry import FAMILIES, Family, look_up, typical_names

__all__ = ["FAMILIES", "Family", "look_up", "typical_names"]
