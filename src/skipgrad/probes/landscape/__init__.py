"""The loss around a trained net: along filter-normalised directions, and its curvature by Lanczos."""

from skipgrad.probes.landscape.curvature import Extremes, extreme_eigenvalues
from skipgrad.probes.landscape.directions import Direction, filter_normalised
from skipgrad.probes.landscape.grid import Landscape, landscape

__all__ = ["Direction", "Extremes", "Landscape", "extreme_eigenvalues", "filter_normalised", "landscape"]
