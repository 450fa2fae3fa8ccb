"""torchvision's Faster R-CNN on a feature pyramid small enough for two cores (Ren et al., arXiv 1506.01497)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import BasicBlock, norm2d
from skipgrad.core.extras import wanted
from skipgrad.models.nets.registry import FAMILIES, Family


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


def detector(num_classes: int = 4, width: int = 16, laterals: bool = True) -> nn.Module:
    """Images and, in training, targets → losses; else detections. Both as torchvision's detectors have them.

    Args:
        num_classes: kinds of things, with the background, which is 0.
        width: channels of the backbone's first stage.
        laterals: whether the finer levels of the pyramid get the backbone's features.

    Raises:
        MissingExtra: torchvision is not installed.
    """
    with wanted("models", "building a Faster R-CNN"):
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.ops import MultiScaleRoIAlign
    backbone = Pyramid(laterals, width)
    channels = backbone.out_channels
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(((7,), (11,), (17,)), ((1.0,),) * 3),
        rpn_pre_nms_top_n_train=200, rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_train=60,
        rpn_post_nms_top_n_test=30, rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 5, 2, canonical_scale=16, canonical_level=3),
        box_head=TwoMLPHead(channels * 25, 64), box_predictor=FastRCNNPredictor(64, num_classes),
        box_batch_size_per_image=32, box_detections_per_img=12,
        min_size=64, max_size=64, image_mean=[0.0] * 3, image_std=[1.0] * 3,
    )  # fmt: skip


FAMILIES.register("fasterrcnn", Family(detector, "other", "detection"), rank=14)
