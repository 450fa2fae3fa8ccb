"""The remedies by name, the most promising first."""

from __future__ import annotations

from skipgrad.core.registry import Registry
from skipgrad.remedies.add_skips import AddSkips
from skipgrad.remedies.gradient_normalization import GradientNormalization
from skipgrad.remedies.gradient_scaling import GradientScaling
from skipgrad.remedies.plan import Remedy
from skipgrad.remedies.skip_calibration import SkipCalibration
from skipgrad.remedies.zero_init import ZeroInit

REMEDIES: Registry[Remedy] = Registry("remedy")
for _remedy in (ZeroInit(), SkipCalibration(), AddSkips(), GradientScaling(), GradientNormalization()):
    REMEDIES.register(_remedy.name, _remedy)


def remedy(name: str) -> Remedy:
    """The remedy called ``name``.

    Raises:
        UnknownName: with the nearest names.
    """
    return REMEDIES.get(name)
