"""The table of vision, flow, audio and 1-D nets against what find finds with no weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from finder import vision_nets
from finder.zoo import check, rows
from skipgrad.core import SkipGraph
from skipgrad.finder import find_built

TABLE = rows("zoo_vision")

# Options beyond the library's own defaults: small images for detectors, no initialization where it takes seconds.
SMALL = {"weights_backbone": None, "min_size": 96, "max_size": 96}
FEW = {**SMALL, "rpn_pre_nms_top_n_test": 20, "rpn_post_nms_top_n_test": 10, "box_detections_per_img": 2}  # boxes
PLAIN = {"weights_backbone": None}
TORCHVISION: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "fasterrcnn_resnet50_fpn": FEW,
    "maskrcnn_resnet50_fpn": FEW,
    "keypointrcnn_resnet50_fpn": FEW,
    "retinanet_resnet50_fpn": SMALL,
    "fcos_resnet50_fpn": SMALL,
    "ssd300_vgg16": PLAIN,
    "ssdlite320_mobilenet_v3_large": PLAIN,
    "fcn_resnet50": PLAIN,
    "deeplabv3_resnet50": PLAIN,
    "lraspp_mobilenet_v3_large": PLAIN,
}
# An LSTM takes a step for every patch of a row.
TIMM: dict[str, dict[str, Any]] = {"sequencer2d_s": {"img_size": 56}}
PLANE: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
MONAI: dict[str, dict[str, Any]] = {
    "UNet": {**PLANE, "channels": (8, 16, 32, 64), "strides": (2, 2, 2), "num_res_units": 2},
    "SegResNet": PLANE,
    "BasicUNet": {**PLANE, "features": (8, 8, 16, 16, 32, 8)},
    "DynUNet": {
        **PLANE, "kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3, "res_block": True,
        "filters": [4, 8, 16, 32],
    },
    "UNETR": {**PLANE, "img_size": 32, "feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2},
    "SwinUNETR": {**PLANE, "feature_size": 12},
    "VNet": {**PLANE, "dropout_dim": 2},
    "AttentionUnet": {**PLANE, "channels": (8, 16, 32, 64), "strides": (2, 2, 2)},
}  # fmt: skip


def maker(model: str) -> Callable[[], nn.Module]:
    """Builds the net a row names: ``library:name``, for smp with the encoder in brackets."""
    library, _, name = model.partition(":")
    name = name.partition(",")[0]
    if library == "torchvision":
        models = pytest.importorskip("torchvision").models
        return lambda: models.get_model(name, weights=None, **TORCHVISION.get(name, {}))
    if library == "timm":
        timm = pytest.importorskip("timm")
        return lambda: timm.create_model(name, **TIMM.get(name, {}))
    if library == "smp":
        smp = pytest.importorskip("segmentation_models_pytorch")
        net, encoder = name.rstrip(")").split("(")
        return lambda: getattr(smp, net)(encoder, encoder_weights=None)
    if library == "monai":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports what is deprecated
            nets = pytest.importorskip("monai.networks.nets")
        return lambda: getattr(nets, name)(**MONAI[name])
    assert library == "own", model
    return getattr(vision_nets, name)


def example(model: str, cell: str) -> Callable[[str], tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments an input cell stands for: ``1,3,8,8``, ``1,3,8,8 twice``, ``[3,8,8]`` (a list of one image)."""
    listed, twice = cell.startswith("["), cell.endswith(" twice")
    shape = tuple(map(int, cell.removesuffix(" twice").strip("[]").split(",")))
    kwargs = {"num_flow_updates": int(model.split(", ")[1].split()[0])} if "updates" in model else {}

    def make(device: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tensors = [torch.zeros(shape, device=device) for _ in range(1 + twice)]
        return ((tensors,) if listed else tuple(tensors)), dict(kwargs)

    return make


def found(model: str, cell: str = "") -> SkipGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constructors announce renamed arguments and default heads
        return find_built(maker(model), example(model, cell or TABLE[model].input))


DETECTORS = [name for name in TABLE if any(word in name for word in ("rcnn", "retinanet", "fcos", ":ssd"))]


@pytest.mark.parametrize("model", [pytest.param(n, marks=pytest.mark.slow) if n in DETECTORS else n for n in TABLE])
def test_the_table(model: str) -> None:
    check(TABLE[model], found(model))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_parallel_branches_are_listed_as_such(name: str) -> None:
    graph = found(f"torchvision:{name}")
    assert {o.kind for o in graph.others} == {"parallel"}
    assert len(graph.others) >= 9


@pytest.mark.slow
def test_a_detector_is_run_for_real_and_says_so() -> None:
    graph = found("torchvision:fasterrcnn_resnet50_fpn")
    assert graph.how == "real"
    assert any("meta" in n for n in graph.notes)


@pytest.mark.parametrize("updates", [1, 2, 5])
@pytest.mark.parametrize("size", ["small", "large"])
def test_rafts_counts_grow_with_its_updates(size: str, updates: int) -> None:
    """The formulas of the table's rows, N the number of updates."""
    n, row = updates, TABLE[f"torchvision:raft_{size}, 3 updates"]
    graph = found(f"torchvision:raft_{size}, {n} updates", row.input)
    grus = 1 if size == "small" else 2
    assert graph.count("add") == 12 + n - 1
    assert graph.count("gate") == grus * n
    assert graph.count("concat") == (3 * n - 2 if size == "small" else 5 * n - 2)
    assert graph.count(long=True) == (4 * (n - 1) if size == "small" else 6 * n - 4)
    gates = [s.name for s in graph if s.kind == "gate" and s.owner.endswith("convgru1")]
    assert len({s.name for s in graph}) == len(graph)
    assert len(gates) == n  # one owner called n times: #2, #3 …
