"""The reference counts of architectures, from their own definitions, against what find finds with no weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from skipgrad.core import SkipGraph
from skipgrad.finder import find_built

tv = pytest.importorskip("torchvision").models
tf = pytest.importorskip("transformers")
smp = pytest.importorskip("segmentation_models_pytorch")

SMALL = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}

# name: (adds, how many of them by projection, concats, how many of all are long)
TORCHVISION = {
    "alexnet": (0, 0, 0, 0),
    "vgg16": (0, 0, 0, 0),
    "resnet18": (8, 3, 0, 0),
    "resnet50": (16, 4, 0, 0),
    "resnet152": (50, 4, 0, 0),
    "densenet121": (0, 0, 58, 0),
    "mobilenet_v2": (10, 0, 0, 0),
    "efficientnet_b0": (9, 0, 0, 0),
    "shufflenet_v2_x1_0": (0, 0, 13, 0),
    "convnext_tiny": (18, 0, 0, 0),
    "swin_t": (24, 0, 0, 0),
    "vit_b_16": (24, 0, 0, 0),
    "regnet_y_400mf": (16, 4, 0, 0),
}
# with the size of the image
TIMM = {
    "mixer_b16_224": ((24, 0, 0, 0), 224),
    "poolformer_s12": ((24, 0, 0, 0), 224),
    "convmixer_768_32": ((32, 0, 0, 0), 224),
    "inception_resnet_v2": ((40, 0, 0, 0), 299),
    "darknet53": ((23, 0, 0, 0), 256),
    "cspresnet50": ((13, 0, 4, 4), 256),
    "levit_128s": ((20, 0, 0, 0), 224),
}
SMP = {"Unet": (8, 3, 4, 4), "UnetPlusPlus": (8, 3, 10, 10), "Linknet": (12, 3, 0, 4), "FPN": (11, 6, 0, 3)}
TRANSFORMERS: dict[str, tuple[Callable[[], Any], int]] = {
    "gpt2": (lambda: tf.GPT2LMHeadModel(tf.GPT2Config()), 24),
    "bert": (lambda: tf.BertModel(tf.BertConfig()), 24),
    "t5": (lambda: tf.T5Model(tf.T5Config()), 30),
    "llama": (lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL)), 8),
    "gptj": (lambda: tf.GPTJModel(tf.GPTJConfig(n_layer=4, n_embd=64, n_head=4, rotary_dim=16)), 4),
    "albert": (lambda: tf.AlbertModel(tf.AlbertConfig(embedding_size=64, **SMALL)), 8),
}


def counts(graph: SkipGraph) -> tuple[int, int, int, int]:
    adds, projections = graph.count("add"), graph.count("add", shortcut="projection")
    return adds, projections, graph.count("concat"), graph.count(long=True)


def built(make: Callable[[], Any], *shape: int) -> SkipGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constructors announce renamed arguments and default heads
        return find_built(make, lambda device: ((torch.zeros(shape, device=device),), {}))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    graph = built(lambda: getattr(tv, name)(weights=None), 1, 3, 224, 224)
    assert counts(graph) == TORCHVISION[name]
    assert graph.unknown == ()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_parallel_branches_are_no_skips(name: str) -> None:
    graph = built(lambda: getattr(tv, name)(weights=None, init_weights=False), 2, 3, 299, 299)
    assert counts(graph) == (0, 0, 0, 0)
    assert {o.kind for o in graph.others} == {"parallel"}
    assert len(graph.others) >= 9


def test_a_detector_is_run_for_real_and_says_so() -> None:
    def make() -> Any:
        return tv.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = find_built(make, lambda d: (([torch.zeros(3, 96, 96, device=d)],), {}))
    assert counts(graph) == (19, 7, 0, 3)
    assert graph.how == "real"
    assert any("meta" in n for n in graph.notes)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    make, adds = TRANSFORMERS[name]

    def example(device: str) -> tuple[tuple[()], dict[str, torch.Tensor]]:
        ids = torch.zeros(1, 16, dtype=torch.long, device=device)
        return (), {"input_ids": ids, **({"decoder_input_ids": ids.clone()} if name == "t5" else {})}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = find_built(make, example)
    assert counts(graph) == (adds, 0, 0, 0)
    assert graph.unknown == ()


@pytest.mark.parametrize("name", SMP)
def test_segmentation_models(name: str) -> None:
    graph = built(lambda: getattr(smp, name)("resnet18", encoder_weights=None), 1, 3, 128, 128)
    assert counts(graph) == SMP[name]


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    expected, size = TIMM[name]
    assert counts(built(lambda: timm.create_model(name), 2, 3, size, size)) == expected


def test_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")

    def example(device: str) -> tuple[tuple[()], dict[str, torch.Tensor]]:
        time = torch.zeros(1, dtype=torch.long, device=device)
        return (), {"sample": torch.zeros(1, 3, 64, 64, device=device), "timestep": time}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = find_built(lambda: diffusers.UNet2DModel(sample_size=64), example)
    assert counts(graph) == (38, 15, 12, 12)


def test_monai() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nets = pytest.importorskip("monai.networks.nets")

        def make() -> Any:
            return nets.UNet(
                spatial_dims=2,
                in_channels=1,
                out_channels=2,
                channels=(8, 16, 32, 64),
                strides=(2, 2, 2),
                num_res_units=2,
            )

        assert counts(built(make, 1, 1, 64, 64)) == (7, 4, 3, 3)
