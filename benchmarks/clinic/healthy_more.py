"""More nets that are well: adapters, diffusion, segmentation, detection, speech, graphs, recurrence, flows, experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clinic.cases import Case, binary, entropy, images, masks, regression, sentences, squares, tokens, vectors
from clinic.healthy import monai, smp, timm, transformers
from clinic.nets import Residual, Transformer, UNet
from clinic.nets_sick import ConvResidual, Routed, Stack, Summing
from clinic.sick import nodes

I, I16, M, M3, S, T, V = (  # noqa: E741
    images(),
    images(size=16, noise=0.5),
    masks(),
    masks(channels=3),
    sentences(),
    tokens(),
    vectors(),
)


def lora() -> nn.Module:
    """GPT-2 with peft's LoRA on its projections, the head trained as well."""
    import peft

    net = transformers("GPT2Config", "GPT2LMHeadModel", vocab_size=64, n_layer=3, n_embd=32, n_head=4)()
    config = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, modules_to_save=["lm_head", "wte"])
    return peft.get_peft_model(net, config)  # type: ignore[arg-type]


def lora_llama() -> nn.Module:
    """Llama with peft's LoRA on queries and values, embedding and head trained as well."""
    import peft

    net = transformers(
        "LlamaConfig",
        "LlamaForCausalLM",
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )()
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head", "embed_tokens"], lora_alpha=16
    )
    return peft.get_peft_model(net, config)  # type: ignore[arg-type]


class Denoiser(nn.Module):
    """diffusers' UNet2DModel with cross-level attention left out, at a drawn time."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d import UNet2DModel

        self.net = UNet2DModel(
            sample_size=16,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(16, 32, 32),
            norm_num_groups=8,
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
        )

    def forward(self, x: Tensor) -> Tensor:
        time = torch.arange(len(x)) * 10
        return self.net(x, time).sample


class Output(nn.Module):
    """A model whose output is a dictionary or a record, of which one entry is taken."""

    def __init__(self, net: nn.Module, entry: str) -> None:
        super().__init__()
        self.net, self.entry = net, entry

    def forward(self, *x: Tensor) -> Tensor:
        return self.net(*x)[self.entry]


def segmenter(name: str) -> Callable[[], nn.Module]:
    """A segmentation net of torchvision."""

    def build() -> nn.Module:
        import torchvision

        return Output(
            getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=1), "out"
        )

    return build


class Pyramid(nn.Module):
    """The backbone of torchvision's detectors, a ResNet with a feature pyramid, and a map over its levels."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

        self.backbone = resnet_fpn_backbone(
            backbone_name="resnet18", weights=None, trainable_layers=5, norm_layer=nn.BatchNorm2d
        )
        self.head = nn.Conv2d(256, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = self.backbone(x)
        out = self.head(levels["0"])
        for name in ("1", "2", "3"):
            out = out + nn.functional.interpolate(self.head(levels[name]), out.shape[-2:])
        return nn.functional.interpolate(out, x.shape[-2:])


class Whisper(nn.Module):
    """Whisper's encoder and decoder on features; the decoder gets one token and says the class."""

    def __init__(self) -> None:
        super().__init__()
        self.net = transformers(
            "WhisperConfig",
            "WhisperForConditionalGeneration",
            vocab_size=64,
            num_mel_bins=16,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_source_positions=16,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )()

    def forward(self, x: Tensor) -> Tensor:
        start = torch.ones(len(x), 1, dtype=torch.long)
        return self.net(input_features=x[:, 0, :16], decoder_input_ids=start).logits[:, 0, :10]


def vision(config: str, model: str, **given: Any) -> Callable[[], nn.Module]:
    """An image classifier of transformers."""
    return transformers(config, model, image_size=32, patch_size=4, num_labels=10, **given)


class Conditional(nn.Module):
    """A flow of affine couplings with batch-wise actnorm in between, each coupling's net with a skip inside."""

    def __init__(self, layers: int = 4, width: int = 16) -> None:
        super().__init__()
        self.nets = nn.ModuleList(Residual(2, width // 2, width) for _ in range(layers))
        self.logs = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for net, log in zip(self.nets, self.logs, strict=True):
            x, total = x * log.exp(), total + log.sum()
            a, b = x.chunk(2, 1)
            scale, shift = net(a).chunk(2, 1)
            b = b * scale.tanh().exp() + shift
            total = total + scale.tanh().sum(1)
            x = torch.cat([b, a], 1)
        return 0.5 * x.square().sum(1) - total


class Variational(nn.Module):
    """A variational autoencoder with skips in both halves; it returns the image and the divergence."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Residual(3, 64, 16), Residual(3, 64, 64)
        self.widen = nn.Linear(8, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
        return self.decoder(self.widen(z)), divergence


def evidence_bound(out: Any, y: Tensor) -> Tensor:
    """Squared error and a little of the divergence."""
    return nn.functional.mse_loss(out[0], y) + 0.001 * out[1]


def of_itself(step: int) -> Any:
    """Vectors as their own target."""
    (x,), _ = V(step)
    return (x,), x


def smoothed(step: int) -> Any:
    """Noise, and its local mean."""
    (x,), _ = masks(16, 8)(step)
    return (x,), nn.functional.avg_pool2d(x, 3, 1, 1)


def patches(step: int) -> Any:
    """Images of two by two patches, light and dark, under noise."""
    g = torch.Generator().manual_seed(100 + step)
    light = (torch.rand(8, 1, 2, 2, generator=g) < 0.5).float()
    mask = nn.functional.interpolate(light, (64, 64))
    return (mask + 0.5 * torch.randn(8, 3, 64, 64, generator=g),), mask


def likelihood(out: Tensor, _y: Tensor) -> Tensor:
    """The flow's own figure."""
    return out.mean()


MIXTRAL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
}
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
SMALL_VIT: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
sgd: dict[str, Any] = {"optimizer": "sgd"}

HEALTHY_MORE: tuple[Case, ...] = (
    Case("peft LoRA on gpt2", lora, T, entropy, rate=1e-2, optimizer="adamw"),
    Case("peft LoRA on llama", lora_llama, T, entropy, rate=1e-2, optimizer="adamw", seed=1),
    Case(
        "transformers mixtral, two of four experts",
        transformers("MixtralConfig", "MixtralForCausalLM", **MIXTRAL),
        T,
        entropy,
        rate=3e-3,
    ),
    Case("experts, one picked", lambda: Routed(3), V, entropy, rate=1e-3, seed=2),
    Case(
        "transformers vit",
        vision("ViTConfig", "ViTForImageClassification", **SMALL_VIT),
        I,
        entropy,
        rate=1e-3,
        optimizer="adamw",
    ),
    Case(
        "transformers swin",
        vision("SwinConfig", "SwinForImageClassification", **SWIN),
        I,
        entropy,
        rate=1e-3,
        optimizer="adamw",
    ),
    Case("transformers whisper", Whisper, I, entropy, rate=5e-3, warm=5, steps=80),
    Case(
        "diffusers UNet2D, three levels, drawn times",
        Denoiser,
        smoothed,
        squares,
        rate=3e-3,
        optimizer="adamw",
        steps=30,
    ),
    Case("torchvision lraspp", segmenter("lraspp_mobilenet_v3_large"), patches, binary, rate=3e-3, steps=30),
    Case(
        "torchvision deeplabv3, RMSprop",
        segmenter("deeplabv3_mobilenet_v3_large"),
        patches,
        binary,
        rate=3e-4,
        optimizer="rmsprop",
        steps=30,
    ),
    Case("torchvision feature pyramid", Pyramid, M3, binary, rate=1e-3, steps=30),
    Case("smp MAnet, SGD", smp("MAnet"), M3, binary, rate=0.1, steps=40, **sgd),
    Case("smp DeepLabV3Plus", smp("DeepLabV3Plus"), M3, binary, optimizer="adamw", rate=1e-3),
    Case(
        "monai AttentionUnet",
        monai("AttentionUnet", spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16, 32), strides=(2, 2)),
        M,
        binary,
        rate=3e-3,
    ),
    Case(
        "monai DynUNet",
        monai(
            "DynUNet",
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            kernel_size=(3, 3, 3),
            strides=(1, 2, 2),
            upsample_kernel_size=(2, 2),
            filters=(8, 16, 32),
        ),
        M,
        binary,
        rate=3e-3,
    ),
    Case(
        "GRUs with skips, RMSprop",
        lambda: Stack("GRU", 3, skips=True),
        S,
        entropy,
        rate=3e-3,
        optimizer="rmsprop",
        steps=60,
    ),
    Case("LSTM, two layers", lambda: Stack("LSTM", 2), S, entropy, rate=1e-2, steps=60, seed=3),
    Case(
        "graph of means with skips",
        lambda: Summing(4, mean=True),
        nodes,
        entropy,
        rate=0.05,
        steps=40,
        fast=True,
        **sgd,
    ),
    Case(
        "a flow with skips inside",
        Conditional,
        lambda s: ((0.3 * regression()(s)[0][0],), torch.zeros(1)),
        likelihood,
        rate=3e-3,
        optimizer="adamw",
    ),
    Case("a variational autoencoder", Variational, of_itself, evidence_bound, rate=3e-3, seed=4),
    Case(
        "convolutions, in-place ReLU on the shortcut",
        lambda: ConvResidual(6, in_place=True),
        I16,
        entropy,
        rate=3e-3,
        fast=True,
    ),
    Case("our U-Net, SGD", lambda: UNet(2), masks(32), binary, rate=0.2, seed=5, **sgd),
    Case("Pre-LN transformer, SGD", lambda: Transformer(4), T, entropy, rate=0.3, steps=60, seed=6, **sgd),
    Case("residual, RMSprop", lambda: Residual(8), V, entropy, rate=1e-3, optimizer="rmsprop", seed=7),
    Case("timm fasternet", timm("fasternet_t0"), I, entropy, rate=1e-3, optimizer="adamw", steps=30),
    Case("timm inception_next", timm("inception_next_atto"), I, entropy, rate=1e-3, optimizer="adamw", steps=30),
    Case(
        "timm swin",
        timm("swin_tiny_patch4_window7_224", img_size=32, window_size=4, depths=(2, 2), num_heads=(2, 4), embed_dim=32),
        I,
        entropy,
        rate=1e-3,
        optimizer="adamw",
    ),
)
