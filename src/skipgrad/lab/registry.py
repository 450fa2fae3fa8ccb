"""Every claim by its id."""

from __future__ import annotations

from skipgrad.core.registry import Registry
from skipgrad.lab.claim import Claim

CLAIMS: Registry[Claim] = Registry("claim", Claim, home="skipgrad.lab.claims", group="skipgrad.claims", key="id")
