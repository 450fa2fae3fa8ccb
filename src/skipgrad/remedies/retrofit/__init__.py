"""What the retrofits share: forms of skip put into a net that exists, at the calls where its skips merge."""

from skipgrad.remedies.retrofit.places import Place, Spot, spots
from skipgrad.remedies.retrofit.remedy import Retrofit, Retrofitted

__all__ = ["Place", "Retrofit", "Retrofitted", "Spot", "spots"]
