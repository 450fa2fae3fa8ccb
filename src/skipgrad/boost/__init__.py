"""Which remedies make this model train faster: raced, measured, ranked."""

from skipgrad.boost.boost import boost
from skipgrad.core.rank import ranked

__all__ = ["boost", "ranked"]
