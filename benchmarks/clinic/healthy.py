"""Nets that are well: of the model libraries and of our own, each on a task that it learns within its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from clinic.cases import (
    Case,
    binary,
    entropy,
    images,
    logits,
    masks,
    regression,
    rescaled,
    sentences,
    squares,
    tokens,
    vectors,
)
from clinic.nets import Graph, Highway, Plain, Residual, Scaled, Tower, Transformer, UNet
from clinic.sick import nodes, zeroed


def torchvision(name: str, **given: Any) -> Callable[[], nn.Module]:
    """A net of torchvision, with ten classes."""

    def build() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, num_classes=10, **given)

    return build


def timm(name: str, **given: Any) -> Callable[[], nn.Module]:
    """A net of timm, with ten classes."""

    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=10, **given)

    return build


def transformers(config: str, model: str, **given: Any) -> Callable[[], nn.Module]:
    """A net of transformers, from its config."""

    def build() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**given))

    return build


def smp(name: str, **given: Any) -> Callable[[], nn.Module]:
    """A net of segmentation_models_pytorch."""

    def build() -> nn.Module:
        import segmentation_models_pytorch

        return getattr(segmentation_models_pytorch, name)(
            "resnet18", encoder_weights=None, in_channels=3, classes=1, **given
        )

    return build


def monai(name: str, **given: Any) -> Callable[[], nn.Module]:
    """A net of MONAI."""

    def build() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, name)(**given)

    return build


def diffusion() -> nn.Module:
    """A small denoising U-Net of diffusers at a fixed time."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    net = UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.register_buffer("time", torch.tensor([10]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x, self.time).sample

    return Denoiser()


class Adapter(nn.Module):
    """LoRA beside a linear layer."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = (
            nn.Linear(base.in_features, rank, bias=False),
            nn.Linear(rank, base.out_features, bias=False),
        )
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + 2 * self.up(self.down(x))


def adapted() -> nn.Module:
    """A Pre-LN transformer whose projections have adapters, the head trained, all else frozen."""
    net = Transformer(4)
    parts: Any = net.parts
    for part in parts:
        if hasattr(part, "qkv"):
            part.qkv = Adapter(part.qkv)
    for name, p in net.named_parameters():
        p.requires_grad_(".down." in name or ".up." in name or name.startswith(("head", "embed")))
    return net


def frozen_backbone() -> nn.Module:
    """Only the head of a residual net is trained."""
    net = Residual(6)
    for name, p in net.named_parameters():
        p.requires_grad_(name.startswith("head"))
    return net


class Recurrent(nn.Module):
    """Two LSTMs with a skip around each."""

    def __init__(self, vocabulary: int = 64, width: int = 64) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)
        self.cells = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(2))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for cell in self.cells:
            x = x + cell(x)[0]
        return self.head(x)


class Experts(nn.Module):
    """A mixture of four experts, all of them weighed, around which a skip leads."""

    def __init__(self, blocks: int = 3, width: int = 64) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 4)
        self.gates = nn.ModuleList(nn.Linear(width, 4) for _ in range(blocks))
        self.experts = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()) for _ in range(4))
            for _ in range(blocks)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for gate, experts in zip(self.gates, self.experts, strict=True):
            weights = gate(x).softmax(-1)
            x = x + torch.stack([weights[:, i : i + 1] * e(x) for i, e in enumerate(experts)]).sum(0)  # type: ignore[arg-type]
        return self.head(x)


class Coupling(nn.Module):
    """A flow of affine couplings; its loss is a negative log likelihood."""

    def __init__(self, layers: int = 6, width: int = 16) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(width // 2, 64), nn.ReLU(), nn.Linear(64, width)) for _ in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.new_zeros(len(x))
        a, b = x.chunk(2, 1)
        for net in self.nets:
            scale, shift = net(a).chunk(2, 1)
            b = b * scale.tanh().exp() + shift
            total = total + scale.tanh().sum(1)
            a, b = b, a
        return 0.5 * (a.square().sum(1) + b.square().sum(1)) - total


def likelihood(out: torch.Tensor, _y: torch.Tensor) -> torch.Tensor:
    """The flow's own figure."""
    return out.mean()


class Deep(nn.Module):
    """A main head, and an auxiliary one with a small weight that runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = Residual(6, out=64), nn.Linear(64, 4), Plain(4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body(x)
        return self.head(h), self.aux(h)


def main_and_aux(out: Any, y: torch.Tensor) -> torch.Tensor:
    """The auxiliary loss counts a hundredth."""
    return nn.functional.cross_entropy(out[0], y) + 0.01 * nn.functional.cross_entropy(out[1], y)


def last_token(out: Any, y: torch.Tensor) -> torch.Tensor:
    """Cross entropy of an encoder-decoder's logits."""
    return entropy(logits(out), y)


class Translation(nn.Module):
    """T5 given its input twice."""

    def __init__(self) -> None:
        super().__init__()
        self.net = transformers(
            "T5Config",
            "T5ForConditionalGeneration",
            vocab_size=64,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
        )()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.net(input_ids=ids, decoder_input_ids=ids).logits


I, I64, V, T, S = images(), images(size=64, batch=8), vectors(), tokens(), sentences()  # noqa: E741
M, M3 = masks(), masks(channels=3)
SMALL: dict[str, Any] = {"vocab_size": 64}
BERT = SMALL | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_labels": 4,
    "max_position_embeddings": 32,
}
LLAMA = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
sgd: dict[str, Any] = {"optimizer": "sgd"}


def vision(name: str, build: Callable[[], nn.Module], **given: Any) -> Case:
    """A classifier of images."""
    return Case(name, build, given.pop("batches", I), entropy, **given)


HEALTHY: tuple[Case, ...] = (
    Case(
        "transformers gpt2",
        transformers("GPT2Config", "GPT2LMHeadModel", vocab_size=64, n_layer=3, n_embd=32, n_head=4),
        T,
        entropy,
        rate=3e-3,
        fast=True,
    ),
    Case(
        "transformers bert, warm-up",
        transformers("BertConfig", "BertForSequenceClassification", **BERT),
        S,
        entropy,
        warm=10,
        steps=60,
        rate=2e-3,
    ),
    Case(
        "transformers roberta",
        transformers("RobertaConfig", "RobertaForSequenceClassification", **BERT),
        S,
        entropy,
        warm=10,
        steps=60,
        rate=2e-3,
    ),
    Case(
        "transformers electra",
        transformers("ElectraConfig", "ElectraForSequenceClassification", **BERT),
        S,
        entropy,
        warm=10,
        steps=60,
        rate=2e-3,
    ),
    Case(
        "transformers distilbert",
        transformers(
            "DistilBertConfig",
            "DistilBertForSequenceClassification",
            vocab_size=64,
            dim=32,
            hidden_dim=64,
            n_layers=3,
            n_heads=4,
            num_labels=4,
        ),
        S,
        entropy,
        warm=10,
        steps=60,
        rate=2e-3,
    ),
    Case("transformers llama", transformers("LlamaConfig", "LlamaForCausalLM", **LLAMA), T, entropy, rate=3e-3),
    Case("transformers qwen2", transformers("Qwen2Config", "Qwen2ForCausalLM", **LLAMA), T, entropy, rate=3e-3),
    Case("transformers mistral", transformers("MistralConfig", "MistralForCausalLM", **LLAMA), T, entropy, rate=3e-3),
    Case(
        "transformers gpt_neox",
        transformers(
            "GPTNeoXConfig",
            "GPTNeoXForCausalLM",
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
        ),
        T,
        entropy,
        rate=3e-3,
    ),
    Case(
        "transformers opt",
        transformers(
            "OPTConfig",
            "OPTForCausalLM",
            vocab_size=64,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            word_embed_proj_dim=32,
        ),
        T,
        entropy,
        rate=3e-3,
    ),
    Case("transformers t5", Translation, T, entropy, rate=3e-3, steps=60),
    Case("smp Unet", smp("Unet"), M3, binary),
    Case("smp Linknet", smp("Linknet"), M3, binary),
    Case("smp FPN", smp("FPN"), M3, binary),
    Case("smp UnetPlusPlus", smp("UnetPlusPlus"), M3, binary, steps=30),
    Case(
        "monai UNet",
        monai(
            "UNet",
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=(8, 16, 32, 64),
            strides=(2, 2, 2),
            num_res_units=2,
        ),
        M,
        binary,
        rate=3e-3,
    ),
    Case(
        "monai BasicUNet",
        monai("BasicUNet", spatial_dims=2, in_channels=1, out_channels=1, features=(8, 8, 16, 32, 64, 8)),
        M,
        binary,
        rate=3e-3,
    ),
    Case(
        "monai SegResNet",
        monai("SegResNet", spatial_dims=2, init_filters=8, in_channels=1, out_channels=1),
        M,
        binary,
        rate=3e-3,
    ),
    Case(
        "diffusers UNet2D",
        diffusion,
        lambda s: (lambda x: ((x,), nn.functional.avg_pool2d(x, 3, 1, 1)))(masks(16, 8)(s)[0][0]),
        squares,
        rate=3e-3,
    ),
    Case("our U-Net, batch norm", UNet, M, binary, rate=3e-3, fast=True),
    Case("our U-Net, four levels", lambda: UNet(4), M, binary, rate=3e-3),
    Case("Pre-LN transformer", lambda: Transformer(6), T, entropy, rate=3e-3, fast=True),
    Case("Post-LN transformer, warm-up", lambda: Transformer(4, post=True), T, entropy, rate=3e-3, warm=15, steps=60),
    Case("LoRA", adapted, T, entropy, rate=1e-2, fast=True),
    Case("a frozen backbone", frozen_backbone, V, entropy, rate=1e-2),
    Case("LSTM with skips", Recurrent, T, entropy, rate=5e-3),
    Case("mixture of experts", Experts, V, entropy),
    Case("a flow", Coupling, lambda s: ((0.3 * regression()(s)[0][0],), torch.zeros(1)), likelihood, rate=3e-3),
    Case("GCNII", lambda: Graph(16), nodes, entropy, rate=1e-2, steps=60),
    Case("LayerScale at 1e-6", lambda: Scaled(8, 1e-6), V, entropy, fast=True),
    Case("ReZero", lambda: Scaled(8, 0.0), V, entropy),
    Case("zero-init without norm", lambda: zeroed(Residual(16, norm=False)), V, entropy, rate=0.01, **sgd),
    Case("residual in residual, scale .2", lambda: rescaled(Tower(4, 0.2), 1.0), masks(32, channels=3), squares),
    Case("highway", lambda: Highway(8, -1.0), V, entropy, fast=True),
    Case("plain-6", lambda: rescaled(Plain(6), 1.0), V, entropy, rate=0.01, **sgd),
    Case("a head at the side that counts little", Deep, V, main_and_aux, fast=True),
    Case("measured every fifth step", lambda: Residual(8), V, entropy, every=5, steps=60),
    Case("a regression", lambda: Residual(4, 16, 1), regression(), squares, rate=3e-3, steps=60),
    vision("torchvision resnet18", torchvision("resnet18")),
    vision("torchvision resnet18, SGD", torchvision("resnet18"), rate=0.02, **sgd),
    vision("torchvision resnet34", torchvision("resnet34"), steps=30),
    vision("torchvision resnet50", torchvision("resnet50"), steps=30),
    vision("torchvision densenet121", torchvision("densenet121"), steps=30),
    vision("torchvision mobilenet_v2", torchvision("mobilenet_v2"), rate=3e-3),
    vision("torchvision mobilenet_v3_small", torchvision("mobilenet_v3_small"), rate=3e-3, batches=I64),
    vision("torchvision shufflenet", torchvision("shufflenet_v2_x0_5"), rate=3e-3),
    vision("torchvision squeezenet1_1", torchvision("squeezenet1_1"), steps=60),
    vision("torchvision efficientnet_b0", torchvision("efficientnet_b0"), rate=3e-3),
    vision("torchvision regnet_y_400mf", torchvision("regnet_y_400mf"), rate=3e-3),
    vision("torchvision mnasnet0_5", torchvision("mnasnet0_5"), rate=3e-3),
    vision("timm convnext_atto", timm("convnext_atto"), optimizer="adamw", rate=5e-4),
    vision("timm vit, patch 4", timm("vit_tiny_patch16_224", img_size=32, patch_size=4, depth=6), rate=5e-4),
    vision(
        "timm deit3 with LayerScale", timm("deit3_small_patch16_224", img_size=32, patch_size=8, depth=4), rate=5e-4
    ),
    vision("timm poolformer", timm("poolformer_s12"), rate=1e-3, steps=30),
    vision("timm resmlp", timm("resmlp_12_224", img_size=64), rate=1e-3, steps=30, batches=I64),
    vision("timm mixer", timm("mixer_s16_224", img_size=64), rate=5e-4, steps=30, batches=I64),
    vision("timm regnetx_002", timm("regnetx_002"), rate=3e-3),
    vision("timm ghostnet_050", timm("ghostnet_050"), rate=3e-3),
    vision("timm resnet10t", timm("resnet10t"), rate=1e-3),
    vision("timm xcit_nano", timm("xcit_nano_12_p8_224", img_size=32), rate=5e-4, steps=30),
    vision("timm seresnet18", timm("legacy_seresnet18"), steps=30),
)
