"""What a net loses when branches are dropped: each by itself, some together, or two blocks exchanged."""

from skipgrad.probes.lesion.lesion import Lesions, dropped, lesions, swapped

__all__ = ["Lesions", "dropped", "lesions", "swapped"]
