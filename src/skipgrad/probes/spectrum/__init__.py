"""How long are the paths a gradient takes? `path_spectrum` says it exactly, `sampled_spectrum` estimates it."""

from skipgrad.probes.spectrum.exact import path_spectrum
from skipgrad.probes.spectrum.sampled import sampled_spectrum

__all__ = ["path_spectrum", "sampled_spectrum"]
