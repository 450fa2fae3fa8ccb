"""x + F(x) as a module."""

from __future__ import annotations

from torch import Tensor, nn

from skipgrad.core.errors import BadInput
from skipgrad.core.units import shape


class Residual(nn.Module):
    """y = x + F(x): an identity skip around one layer, or around several as ``nn.Sequential``.

    Args:
        branch: F; what it returns has the shape of x.

    Raises:
        BadInput: in the forward, when F changes the shape of x (broadcast, the add would be no skip).
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if y.shape != x.shape:
            raise BadInput(
                "adding a skip around a layer",
                where=f"Residual({type(self.branch).__name__})",
                received=f"x of {shape(tuple(x.shape))} and F(x) of {shape(tuple(y.shape))}",
                todo="let F keep the shape: as many channels out as in, stride 1, padding='same'",
            )
        return x + y
