"""The index skip: the pooling's indices tell the unpooling where its values go."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import where
from skipgrad.blocks.forms.registry import FORMS, IMAGE, FormEntry, Seen
from skipgrad.core import BadInput


class IndexSkip(nn.Module):
    """unpool(inner(p), indices) with (p, indices) = pool(x): (N, C, H, W) → the same.

    Badrinarayanan, Kendall and Cipolla, "SegNet" (arXiv 1511.00561). No values pass by the inner part, only where the
    largest ones stood.

    Args:
        inner: what runs at the lower resolution; it keeps the shape.
        kernel_size: of pooling and unpooling.

    Raises:
        BadInput: in the forward, when inner changes the shape.
    """

    def __init__(self, inner: nn.Module, kernel_size: int = 2) -> None:
        super().__init__()
        self.inner, self.kernel_size = inner, kernel_size

    def forward(self, x: Tensor) -> Tensor:
        pooled, indices = F.max_pool2d(x, self.kernel_size, return_indices=True)
        f = self.inner(pooled)
        if f.shape != pooled.shape:
            raise BadInput(
                "unpooling by the indices of a pooling",
                where=where(self, "inner"),
                received=f"it was given {tuple(pooled.shape)} and returned {tuple(f.shape)}",
                todo="let inner keep the shape, or use the form 'long-concat'",
            )
        return F.max_unpool2d(f, indices, [self.kernel_size] * 2, output_size=x.shape[-2:])


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(m.inner(pooled), indices, [2, 2])  # type: ignore[operator]


FORMS.register(
    "segnet",
    FormEntry(
        title="Index skip",
        build=IndexSkip,
        example=lambda: IndexSkip(nn.Conv2d(4, 4, 3, 1, 1)),
        shape=IMAGE,
        formula="y = unpool(inner(p), indices), (p, indices) = pool(x)",
        paper='Badrinarayanan, Kendall and Cipolla, "SegNet", 2015 (arXiv 1511.00561)',
        shapes="(N, C, H, W) → the same; inner keeps the pooled shape",
        start="unpool(inner(pool(x)))",
        initially=_initially,
        finds=(Seen("index", "pool", 1, long=True),),
        when="Segmentation where memory is short: an index a value of the pooled map instead of the map itself.",
        cost="the memory of the indices",
        sees="No gradient comes along indices: S is not measured.",
    ),
)
