"""The reference counts of language, speech, sequence, diffusion and multimodal nets against what find finds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from finder.language_loops import LOOPS
from finder.language_nets import STACKS, mlp
from finder.zoo import check, rows
from skipgrad.core import SkipGraph
from skipgrad.finder import find_built

TABLE = rows("zoo_language")
WRITTEN = {**STACKS, **LOOPS}
Inputs = dict[str, Tensor]

# The names a config gives to depth, width, width of the MLP and heads, by family.
LLAMA = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
MARIAN = {
    "encoder_layers": 4, "decoder_layers": 4, "d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4,
}  # fmt: skip
T5 = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 4, "num_decoder_layers": 4}
GQA = {**LLAMA, "num_key_value_heads": 2}
MOE = {**GQA, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
VISION = {"image_size": 32, "patch_size": 8}
SPEECH = {
    **LLAMA, "conv_dim": (32, 32), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "layerdrop": 0.0, "apply_spec_augment": False,
}  # fmt: skip
SSM = {"mamba_d_state": 8, "mamba_d_head": 32, "mamba_n_heads": 4, "mamba_n_groups": 1, "mamba_chunk_size": 8}

# name in the table: (model class, config class, arguments of the config)
IDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {}),
    "bert": ("BertModel", "BertConfig", {}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "gptj": ("GPTJModel", "GPTJConfig", {"n_layer": 4, "n_embd": 64, "n_head": 4, "rotary_dim": 16}),
    "albert": ("AlbertModel", "AlbertConfig", {**LLAMA, "embedding_size": 64}),
    "gpt_neox": ("GPTNeoXModel", "GPTNeoXConfig", LLAMA),
    "gpt_neox, sequential": ("GPTNeoXModel", "GPTNeoXConfig", {**LLAMA, "use_parallel_residual": False}),
    "falcon": ("FalconModel", "FalconConfig", LLAMA),
    "falcon, sequential": ("FalconModel", "FalconConfig", {**LLAMA, "parallel_attn": False}),
    "phi": ("PhiModel", "PhiConfig", LLAMA),
    "cohere": ("CohereModel", "CohereConfig", LLAMA),
    "opt": ("OPTModel", "OPTConfig", {**LLAMA, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "bloom": ("BloomModel", "BloomConfig", {"n_layer": 4, "hidden_size": 64, "n_head": 4}),
    "xlnet": ("XLNetModel", "XLNetConfig", {"n_layer": 4, "d_model": 64, "n_head": 4, "d_inner": 128}),
    "deberta_v2": (
        "DebertaV2Model", "DebertaV2Config",
        {**LLAMA, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "conv_kernel_size": 3},
    ),
    "electra": ("ElectraModel", "ElectraConfig", {**LLAMA, "embedding_size": 32}),
    "longformer": ("LongformerModel", "LongformerConfig", {**LLAMA, "attention_window": 8}),
    "big_bird": ("BigBirdModel", "BigBirdConfig", {**LLAMA, "attention_type": "original_full"}),
    "reformer": (
        "ReformerModel", "ReformerConfig",
        {
            "attn_layers": ["local"] * 4, "hidden_size": 64, "attention_head_size": 16, "feed_forward_size": 128,
            "num_attention_heads": 4, "axial_pos_embds": False, "local_attn_chunk_length": 8, "is_decoder": True,
            "max_position_embeddings": 32,
        },
    ),
    "mixtral": ("MixtralModel", "MixtralConfig", {**GQA, "num_local_experts": 4}),
    "qwen2_moe": (
        "Qwen2MoeModel", "Qwen2MoeConfig", {**MOE, "num_experts": 4, "shared_expert_intermediate_size": 64}
    ),
    "deepseek_v3": (
        "DeepseekV3Model", "DeepseekV3Config",
        {
            **MOE, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "kv_lora_rank": 16,
            "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
            "first_k_dense_replace": 1,
        },
    ),
    "gemma2": ("Gemma2Model", "Gemma2Config", {**GQA, "head_dim": 16}),
    "gemma3_text": ("Gemma3TextModel", "Gemma3TextConfig", {**GQA, "head_dim": 16}),
    "qwen3": ("Qwen3Model", "Qwen3Config", {**GQA, "head_dim": 16}),
    "olmo2": ("Olmo2Model", "Olmo2Config", LLAMA),
    "mistral": ("MistralModel", "MistralConfig", GQA),
    "stablelm": ("StableLmModel", "StableLmConfig", {**LLAMA, "num_key_value_heads": 4}),
    "stablelm, parallel": (
        "StableLmModel", "StableLmConfig", {**LLAMA, "num_key_value_heads": 4, "use_parallel_residual": True}
    ),
    "funnel": (
        "FunnelModel", "FunnelConfig",
        {"block_sizes": [2, 2], "num_decoder_layers": 2, "d_model": 64, "n_head": 4, "d_head": 16, "d_inner": 128},
    ),
}  # fmt: skip
# Scans run step by step: 8 tokens.
SCANS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mamba": ("MambaModel", "MambaConfig", {"num_hidden_layers": 4, "hidden_size": 64, "state_size": 8}),
    "mamba2": (
        "Mamba2Model", "Mamba2Config",
        {
            "num_hidden_layers": 4, "hidden_size": 64, "state_size": 8, "num_heads": 4, "head_dim": 32, "n_groups": 1,
            "chunk_size": 8,
        },
    ),
    "rwkv": ("RwkvModel", "RwkvConfig", {"num_hidden_layers": 4, "hidden_size": 64}),
    "jamba": (
        "JambaModel", "JambaConfig",
        {**GQA, "attn_layer_period": 4, "attn_layer_offset": 2, "num_experts": 4, "mamba_d_state": 8},
    ),
    "zamba": (
        "ZambaModel", "ZambaConfig",
        {
            **LLAMA, "num_key_value_heads": 4, "mamba_d_state": 8, "n_mamba_heads": 2,
            "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        },
    ),
    "bamba": ("BambaModel", "BambaConfig", {**GQA, **SSM, "attn_layer_indices": [2]}),
    "recurrent_gemma": (
        "RecurrentGemmaModel", "RecurrentGemmaConfig", {**GQA, "lru_width": 64, "attention_window_size": 8}
    ),
    "falcon_h1": ("FalconH1Model", "FalconH1Config", {**GQA, **SSM, "mamba_d_ssm": 128}),
}  # fmt: skip
TWICE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "t5": ("T5Model", "T5Config", {}),
    "mt5": ("MT5Model", "MT5Config", T5),
    "bart": ("BartModel", "BartConfig", MARIAN),
    "marian": ("MarianModel", "MarianConfig", MARIAN),
    "pegasus": ("PegasusModel", "PegasusConfig", MARIAN),
    "switch_transformers": (
        "SwitchTransformersModel", "SwitchTransformersConfig",
        {**T5, "num_experts": 4, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2},
    ),
}  # fmt: skip


def ids(n: int, fill: int = 5, device: str = "cpu") -> Tensor:
    """Token ids of a batch of one; not 0, which is padding to many."""
    return torch.full((1, n), fill, device=device)


def found(make: Callable[[], Any], inputs: Callable[[], Inputs | tuple[Tensor, ...]]) -> SkipGraph:
    def example(device: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = inputs()
        if isinstance(given, tuple):
            return tuple(t.to(device) for t in given), {}
        return (), {k: v.to(device) for k, v in given.items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constructors announce renamed arguments and default heads
        return find_built(make, example)


def transformers(model: str, config: str, arguments: dict[str, Any]) -> Any:
    tf = pytest.importorskip("transformers")
    defaults = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} if arguments else {}
    return getattr(tf, model)(getattr(tf, config)(**{**defaults, **arguments}))


@pytest.mark.parametrize("name", [*IDS, *SCANS])
def test_models_of_token_ids(name: str) -> None:
    kind = {**IDS, **SCANS}[name]
    n = 8 if name in SCANS else 16
    check(TABLE[f"transformers:{name}"], found(lambda: transformers(*kind), lambda: {"input_ids": ids(n)}))


@pytest.mark.parametrize("name", ["gptj", "gpt_neox", "phi", "cohere", "stablelm, parallel"])
def test_parallel_blocks_have_two_branches(name: str) -> None:
    # Not Falcon: x + dropout(attention + MLP) is no chain of adds.
    graph = found(lambda: transformers(*IDS[name]), lambda: {"input_ids": ids(16)})
    assert [(s.fan_in, len(s.branches)) for s in graph] == [(3, 2)] * 4


@pytest.mark.parametrize("name", TWICE)
def test_encoders_and_decoders_of_token_ids(name: str) -> None:
    inputs = {"input_ids": ids(16), "decoder_input_ids": ids(16)}
    check(TABLE[f"transformers:{name}"], found(lambda: transformers(*TWICE[name]), lambda: inputs))


@pytest.mark.parametrize("name", WRITTEN)
def test_nets_written_out_from_their_papers(name: str) -> None:
    make, inputs = WRITTEN[name]
    check(TABLE[name], found(make, inputs))


def clip_vision(layers: int) -> dict[str, Any]:
    return {**LLAMA, "num_hidden_layers": layers, **VISION, "projection_dim": 64}


def llava() -> Any:
    tf = pytest.importorskip("transformers")
    vision = tf.CLIPVisionConfig(**clip_vision(2))
    text = tf.LlamaConfig(**{**LLAMA, "num_hidden_layers": 2}, vocab_size=100)
    return tf.LlavaModel(tf.LlavaConfig(vision_config=vision, text_config=text, image_token_id=7, image_token_index=7))


def detr() -> Any:
    tf = pytest.importorskip("transformers")
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    backbone = tf.ResNetConfig(**sizes, out_features=["stage2"])
    small = {**MARIAN, "encoder_layers": 2, "decoder_layers": 2, "num_queries": 5}
    return tf.DetrModel(
        tf.DetrConfig(**small, backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False)
    )


WAVE = {"input_values": torch.zeros(1, 1600)}
IMAGE = {"pixel_values": torch.zeros(1, 3, 32, 32)}
MULTIMODAL: dict[str, tuple[Callable[[], Any], Inputs]] = {
    "whisper": (
        lambda: transformers(
            "WhisperModel", "WhisperConfig", {**MARIAN, "max_source_positions": 32, "max_target_positions": 32}
        ),
        {"input_features": torch.zeros(1, 80, 64), "decoder_input_ids": ids(16)},
    ),
    "speech_to_text": (
        lambda: transformers(
            "Speech2TextModel", "Speech2TextConfig", {**MARIAN, "conv_channels": 32, "max_source_positions": 100}
        ),
        {"input_features": torch.zeros(1, 64, 80), "decoder_input_ids": ids(16)},
    ),
    "wav2vec2": (lambda: transformers("Wav2Vec2Model", "Wav2Vec2Config", SPEECH), WAVE),
    "hubert": (lambda: transformers("HubertModel", "HubertConfig", SPEECH), WAVE),
    "clip": (
        lambda: transformers(
            "CLIPModel", "CLIPConfig",
            {"text_config": {**LLAMA, "vocab_size": 100, "eos_token_id": 2}, "vision_config": clip_vision(4)},
        ),
        {**IMAGE, "input_ids": ids(8)},
    ),
    "vit_mae": (
        lambda: transformers(
            "ViTMAEForPreTraining", "ViTMAEConfig",
            {
                **LLAMA, **VISION, "decoder_num_hidden_layers": 4, "decoder_hidden_size": 32,
                "decoder_intermediate_size": 64, "decoder_num_attention_heads": 4,
            },
        ),
        IMAGE,
    ),
    "llava": (llava, {**IMAGE, "input_ids": torch.tensor([[5] * 4 + [7] * 16 + [5] * 4])}),
    "detr": (detr, {"pixel_values": torch.zeros(1, 3, 64, 64)}),
    "perceiver": (
        lambda: transformers(
            "PerceiverModel", "PerceiverConfig",
            {
                "num_latents": 8, "d_latents": 32, "d_model": 32, "num_blocks": 2, "num_self_attends_per_block": 2,
                "num_self_attention_heads": 4, "num_cross_attention_heads": 4,
            },
        ),
        {"inputs": torch.zeros(1, 16, 32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MULTIMODAL)
def test_speech_images_and_several_inputs(name: str) -> None:
    make, inputs = MULTIMODAL[name]
    check(TABLE[f"transformers:{name}"], found(make, lambda: inputs))


def test_pytorchs_own_transformer() -> None:
    def make() -> nn.Module:
        return nn.Transformer(64, 4, 2, 2, 128, batch_first=True)

    check(TABLE["torch:nn.Transformer"], found(make, lambda: (torch.zeros(2, 8, 64), torch.zeros(2, 8, 64))))


LATENT, TIME = torch.zeros(1, 4, 8, 8), torch.zeros(1, dtype=torch.long)
DIFFUSERS: dict[str, tuple[dict[str, Any], Inputs]] = {
    "UNet2DModel": ({"sample_size": 64}, {"sample": torch.zeros(1, 3, 64, 64), "timestep": TIME}),
    "DiTTransformer2DModel": (
        {"num_layers": 4, "num_attention_heads": 4, "attention_head_dim": 16, "in_channels": 4, "out_channels": 8,
         "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 10},
        {"hidden_states": LATENT, "timestep": TIME, "class_labels": TIME},
    ),
    "UNet2DConditionModel": (
        {"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "norm_num_groups": 8,
         "attention_head_dim": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
         "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")},
        {"sample": torch.zeros(1, 4, 16, 16), "timestep": TIME, "encoder_hidden_states": torch.zeros(1, 4, 32)},
    ),
    "AutoencoderKL": (
        {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8,
         "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2},
        {"sample": torch.zeros(1, 3, 32, 32)},
    ),
    "FluxTransformer2DModel": (
        {"patch_size": 1, "in_channels": 4, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)},
        {"hidden_states": torch.zeros(1, 16, 4), "encoder_hidden_states": torch.zeros(1, 8, 32),
         "pooled_projections": torch.zeros(1, 32), "timestep": torch.zeros(1), "img_ids": torch.zeros(16, 3),
         "txt_ids": torch.zeros(8, 3)},
    ),
    "SD3Transformer2DModel": (
        {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "caption_projection_dim": 32,
         "pooled_projection_dim": 32, "out_channels": 4, "pos_embed_max_size": 8},
        {"hidden_states": LATENT, "encoder_hidden_states": torch.zeros(1, 8, 32),
         "pooled_projections": torch.zeros(1, 32), "timestep": TIME},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFUSERS)
def test_diffusion(name: str) -> None:
    kind = getattr(pytest.importorskip("diffusers"), name)
    config, inputs = DIFFUSERS[name]
    check(TABLE[f"diffusers:{name}"], found(lambda: kind(**config), lambda: inputs))


class Streams(nn.Module):
    """Four layers of norm and MLP, twice each, wrapped by the package."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        init, self.expand, self.reduce = kind.get_init_and_expand_reduce_stream_functions(3, dim=32)
        self.embed = nn.Linear(32, 32)
        branches = [nn.Sequential(nn.LayerNorm(32), mlp()) for _ in range(8)]
        self.layers = nn.ModuleList(init(branch=b, layer_index=k) for k, b in enumerate(branches))

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(self.embed(x))
        for layer in self.layers:
            x = layer(x)
        return self.reduce(x)


@pytest.mark.parametrize("name", ["HyperConnections", "ManifoldConstrainedHyperConnections"])
def test_the_hyper_connections_package(name: str) -> None:
    package = pytest.importorskip("hyper_connections")
    kind = getattr(package, name, None) or package.mHC
    row = TABLE[f"hyper-connections:{name}"]
    check(row, found(lambda: Streams(kind), lambda: (torch.zeros(2, 8, 32),)))


def test_every_row_is_tested() -> None:
    tested = {f"transformers:{n}" for n in (*IDS, *SCANS, *TWICE, *MULTIMODAL)}
    tested |= {f"diffusers:{n}" for n in DIFFUSERS} | set(WRITTEN) | {"torch:nn.Transformer"}
    tested |= {f"hyper-connections:{n}" for n in ("HyperConnections", "ManifoldConstrainedHyperConnections")}
    assert tested == set(TABLE)
