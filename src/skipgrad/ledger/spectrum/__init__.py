"""How long are the paths a gradient takes? `path_spectrum` says it exactly, `sampled_spectrum` estimates it."""

from skipgrad.ledger.spectrum.exact import path_spectrum
from skipgrad.ledger.spectrum.sampled import sampled_spectrum

__all__ = ["path_spectrum", "sampled_spectrum"]
