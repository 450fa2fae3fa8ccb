"""Claims about skip connections as experiments."""

from skipgrad.lab.claim import Claim, Figure, Progress, Verdict
from skipgrad.lab.registry import CLAIMS, run_claim

__all__ = ["CLAIMS", "Claim", "Figure", "Progress", "Verdict", "run_claim"]
