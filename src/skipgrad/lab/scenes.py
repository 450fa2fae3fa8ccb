"""Generated scenes of shapes with boxes, a Faster R-CNN small enough for two cores, and mean average precision."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import BasicBlock, norm2d
from skipgrad.core.extras import wanted
from skipgrad.models.workload import Batch

SIDE, CLASSES = 64, ("disc", "box", "cross")
Target = dict[str, Tensor]


def scenes(count: int, seed: int) -> tuple[Tensor, list[Target]]:
    """(count, 3, 64, 64) images in noise, and for each the boxes (n, 4), labels (n,) from 1 and masks (n, 64, 64).

    One to four shapes of 5 to 20 pixels an image, of three kinds, whose boxes do not meet.
    """
    dice = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(count, 3, SIDE, SIDE, generator=dice)
    targets = []
    for image in x:
        boxes: list[list[int]] = []
        labels, masks = [], []
        for _ in range(int(torch.randint(1, 5, (), generator=dice))):
            size = int(torch.randint(5, 21, (), generator=dice))
            left, top = torch.randint(1, SIDE - size, (2,), generator=dice).tolist()
            box = [left, top, left + size, top + size]
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
                continue
            kind = int(torch.randint(len(CLASSES), (), generator=dice))
            mask = torch.zeros(SIDE, SIDE)
            mask[box[1] : box[3], box[0] : box[2]] = _shape(kind, size)
            image += mask * (0.5 + torch.rand(3, 1, 1, generator=dice))
            boxes.append(box)
            labels.append(kind + 1)
            masks.append(mask.to(torch.uint8))
        found = {"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels), "masks": torch.stack(masks)}
        targets.append(found)
    return x, targets


def _shape(kind: int, size: int) -> Tensor:
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    if kind == 0:
        return (x**2 + y**2 <= 1.0).float()
    if kind == 1:
        return torch.ones(size, size)
    return ((x.abs() <= 0.34) | (y.abs() <= 0.34)).float()


class Pyramid(nn.Module):
    """Four residual stages at strides 2, 4, 8 and 16, and torchvision's feature pyramid over the last three.

    Without ``laterals`` the finer levels get only what comes down from the coarsest: the features of their own
    resolution are zeros on the way in. The weights are the same.
    """

    def __init__(self, laterals: bool = True, width: int = 16) -> None:
        super().__init__()
        with wanted("models", "building a feature pyramid"):
            from torchvision.ops import FeaturePyramidNetwork
        self.laterals, self.out_channels = laterals, 2 * width
        self.conv, self.norm = nn.Conv2d(3, width, 3, 2, 1, bias=False), norm2d("batch", width)
        widths = [width, 2 * width, 2 * width, 4 * width]
        self.stages = nn.ModuleList(
            BasicBlock(a, b, 1 if k == 0 else 2, norm="batch", shortcut="projection")
            for k, (a, b) in enumerate(zip([width, *widths], widths, strict=False))
        )
        self.pyramid = FeaturePyramidNetwork(widths[1:], self.out_channels)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        x = F.relu(self.norm(self.conv(x)))
        levels: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        kept = [f if self.laterals or k == 2 else torch.zeros_like(f) for k, f in enumerate(levels[1:])]
        return self.pyramid(OrderedDict((str(k), f) for k, f in enumerate(kept)))


def detector(laterals: bool = True) -> nn.Module:
    """torchvision's Faster R-CNN on the small pyramid, in training mode."""
    with wanted("models", "building a Faster R-CNN"):
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.ops import MultiScaleRoIAlign
    backbone = Pyramid(laterals)
    channels = backbone.out_channels
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(((7,), (11,), (17,)), ((1.0,),) * 3),
        rpn_pre_nms_top_n_train=200, rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_train=60,
        rpn_post_nms_top_n_test=30, rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 5, 2, canonical_scale=16, canonical_level=3),
        box_head=TwoMLPHead(channels * 25, 64), box_predictor=FastRCNNPredictor(64, len(CLASSES) + 1),
        box_batch_size_per_image=32, box_detections_per_img=12,
        min_size=SIDE, max_size=SIDE, image_mean=[0.0] * 3, image_std=[1.0] * 3,
    )  # fmt: skip


@dataclass(frozen=True)
class Scenes:
    """A workload of scenes for a detector, whose forward returns its losses.

    Attributes:
        make: makes the detector.
        x, targets: images and what is on them.
        batch_size: images a batch.
        name: for messages.
        task: what is learned.
    """

    make: Callable[[], nn.Module]
    x: Tensor
    targets: Sequence[Target]
    batch_size: int = 8
    name: str = "a detector on scenes"
    task: str = "detection"

    def build(self) -> nn.Module:
        """A new detector in training mode."""
        return self.make().train()

    def loss(self, output: dict[str, Tensor], _batch: Batch) -> Tensor:
        """The sum of the detector's losses."""
        return torch.stack(list(output.values())).sum()

    @property
    def example(self) -> Batch:
        """The first batch of seed 0."""
        return next(self.batches(0))

    def batches(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, shuffled anew in each pass."""
        generator, number = torch.Generator().manual_seed(seed), 0
        while True:
            order = torch.randperm(len(self.x), generator=generator).tolist()
            for i in range(0, len(order) - self.batch_size + 1, self.batch_size):
                at = order[i : i + self.batch_size]
                if number >= start:
                    yield Batch(([self.x[k] for k in at], [self.targets[k] for k in at]), {}, None, len(at))
                number += 1


def mean_average_precision(model: nn.Module, x: Tensor, targets: Sequence[Target]) -> dict[str, float]:
    """COCO's mean average precision (over IoU .5 to .95) and that at IoU .5, of boxes, by torchmetrics."""
    with wanted("detection", "scoring a detector"):
        import pycocotools  # noqa: F401
        from torchmetrics.detection import MeanAveragePrecision
    metric: Any = MeanAveragePrecision(backend="pycocotools")
    with torch.no_grad():
        for at in range(0, len(x), 50):
            metric.update(model(list(x[at : at + 50])), list(targets[at : at + 50]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a net that detects nothing: the score says so
        got = metric.compute()
    return {"map": max(0.0, float(got["map"])), "map_50": max(0.0, float(got["map_50"]))}
