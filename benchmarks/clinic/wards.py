"""All cases, in the order that decides which half a case belongs to: new ones come last, so that no half changes."""

from __future__ import annotations

from clinic import healthy, sick
from clinic.healthy_more import HEALTHY_MORE
from clinic.sick_depth import SICK_DEPTH
from clinic.sick_skips import SICK_SKIPS
from clinic.sick_training import SICK_TRAINING

SICK = (*sick.SICK, *SICK_DEPTH, *SICK_SKIPS, *SICK_TRAINING)
HEALTHY = (*healthy.HEALTHY, *HEALTHY_MORE)
# How many of each there were in the first round, whose half B was not blind.
FIRST_ROUND = {"sick": len(sick.SICK), "healthy": len(healthy.HEALTHY)}
