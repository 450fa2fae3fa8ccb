"""Example inputs of models of transformers that belong together, or have a shape that no docstring tells.

Each rule looks at the configuration or the forward's arguments, never at the name of a model type.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch

from skipgrad.models.source import ids, image

_TOKENS = 16


def special(config: Any, model_class: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """Inputs that replace those made from the documented shapes, or are wanted beside them.

    Args:
        config: the model's configuration.
        model_class: its class.
        device: where to make them.
        made: what was made from the documented shapes.
    """
    names = inspect.signature(model_class.forward).parameters
    changed: dict[str, Any] = {}
    for rule in (_pairs, _codebooks, _marked, _patches, _pictures, _series, _sounds):
        changed |= rule(config, model_class, names, device, {**made, **changed})
    return changed


def _pairs(config: Any, model_class: Any, names: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """Two pictures a sample, where keypoints of one are matched with the other's."""
    matching = hasattr(config, "keypoint_detector_config") or hasattr(config, "q_aggregation_stride")
    if not matching or "pixel_values" not in made:
        return {}
    shape = made["pixel_values"].shape
    return {"pixel_values": image((1, 2, *shape[-3:]), device)}


def _codebooks(config: Any, model_class: Any, names: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """A token per codebook, where sound is written in several codebooks at once."""
    decoder = getattr(config, "decoder_config", None)
    channels = getattr(decoder, "num_channels", None)
    if (
        "decoder_input_ids" in made
        and decoder is not None
        and isinstance(channels, int)
        and hasattr(config, "delay_pattern")
    ):
        return {"decoder_input_ids": ids((1, _TOKENS, channels), device, decoder.vocab_size)}
    if hasattr(config, "codebook_vocab_size") and hasattr(config, "audio_pad_token_id") and "input_ids" in made:
        streams = config.num_codebooks + 1  # the first is text
        return {"input_ids": ids((1, _TOKENS, streams), device, config.codebook_vocab_size)}
    return {}


def _marked(config: Any, model_class: Any, names: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """Tokens of which some stand for a picture, as many as it has features."""
    vision = getattr(config, "vision_config", None)
    if "image_embeds_position_mask" in names and "pixel_values" in made:  # Kosmos says where by a mask
        count = config.latent_query_num
        mask = torch.zeros((1, count + _TOKENS), dtype=torch.long, device=device)
        mask[:, :count] = 1
        return {
            "input_ids": ids((1, count + _TOKENS), device, config.text_config.vocab_size),
            "image_embeds_position_mask": mask,
        }
    count = getattr(config, "num_query_tokens", None)
    token = getattr(config, "image_token_index", getattr(config, "video_token_index", None))
    if vision is None or count is None or "pixel_values" not in made or "input_ids" not in names:
        return {}
    changed: dict[str, Any] = {}
    if hasattr(config, "video_token_index"):
        frames = 4
        changed["pixel_values"] = image((1, frames, *made["pixel_values"].shape[-3:]), device)
        count *= frames
    tokens = torch.full((1, count + _TOKENS), 7 if token != 7 else 8, dtype=torch.long, device=device)
    if token is not None:
        tokens[:, :count] = token
    return {**changed, "input_ids": tokens}


def _patches(config: Any, model_class: Any, names: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """Pictures handed over as a list of patches, with each patch's place or the numbers of rows and columns."""
    side = 12  # a multiple of all the numbers of patches that are merged into one
    flat = getattr(getattr(config, "vision_config", None), "patch_embed_hidden_size", None)
    if "flattened_patches" in made and isinstance(flat, int):  # two numbers more: row and column
        return {"flattened_patches": image((1, side * side, flat + 2), device)}
    patch = getattr(config, "patch_size", None)
    if not isinstance(patch, int) or "pixel_values" not in made:
        return {}
    channels = getattr(config, "num_channels", 3)
    if "pixel_position_ids" in names:  # rows and columns of each
        places = [[[i // side, i % side] for i in range(side * side)]]
        return {
            "pixel_values": image((1, side * side, channels * patch * patch), device),
            "pixel_position_ids": torch.tensor(places, device=device),
        }
    if "target_sizes" in names:
        return {
            "pixel_values": image((1, channels, patch, side * side * patch), device),
            "target_sizes": torch.tensor([[side, side]], dtype=torch.int32, device=device),
        }
    if "grid_thw" in names and hasattr(config, "merge_kernel_size"):  # patches as small pictures
        return {
            "pixel_values": image((side * side, channels, patch, patch), device),
            "grid_thw": torch.tensor([[1, side, side]], device=device),
        }
    merge = getattr(config, "spatial_merge_size", 1)
    if "image_grid_thw" in names and hasattr(config, "posemb_grid_size"):
        return {
            "pixel_values": image((side * side, patch * merge, patch * merge, channels), device),
            "image_grid_thw": torch.tensor([[1, side, side]], device=device),
        }
    return {}


def _pictures(config: Any, model_class: Any, names: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """Several pictures a text, with a mask of which token may look at which."""
    if "prompt_pixel_values" in names and "prompt_masks" in names:  # SegGPT puts one below the other
        height, width = made["pixel_values"].shape[-2:]
        shape = (1, 3, height // 2, width)
        return {name: image(shape, device) for name in ("pixel_values", "prompt_pixel_values", "prompt_masks")}
    side = getattr(getattr(config, "vision_config", None), "image_size", None)
    if "image_attention_mask" not in names or side is None:
        return {}
    return {
        "pixel_values": image((1, 1, 3, side, side), device),
        "image_attention_mask": torch.ones((1, _TOKENS, 1), dtype=torch.long, device=device),
    }


def _series(config: Any, model_class: Any, names: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """A time series: its length and its channels are configured."""
    changed: dict[str, Any] = {}
    length = getattr(config, "context_length", None)
    if "past_values" in made and isinstance(length, int) and hasattr(config, "patch_length"):
        changed["past_values"] = image((1, length, config.num_input_channels), device)
    if hasattr(config, "lags_sequence") and "past_values" in made:
        past = (length or config.prediction_length or 0) + max(config.lags_sequence)
        ahead = config.prediction_length or 0
        features = config.num_time_features
        wide = () if config.input_size == 1 else (config.input_size,)
        changed |= {
            "past_values": image((1, past, *wide), device),
            "past_observed_mask": torch.ones((1, past, *wide), device=device),
            "past_time_features": image((1, past, features), device),
            "future_values": image((1, ahead, *wide), device),
            "future_time_features": image((1, ahead, features), device),
        }
        if config.num_static_categorical_features:
            changed["static_categorical_features"] = ids((1, config.num_static_categorical_features), device, 1)
        changed = {name: value for name, value in changed.items() if name in names}
    return changed


def _sounds(config: Any, model_class: Any, names: Any, device: str, made: dict[str, Any]) -> dict[str, Any]:
    """Sound whose length or number of bins only the layers tell."""
    bins = getattr(getattr(config, "decoder_config", None), "feature_size", None)
    if hasattr(config, "speech_config") and "input_features" in made and isinstance(bins, int):
        return {"input_features": image((1, bins, 256), device)}
    window = getattr(config, "n_window", None)
    if "padded_feature_length" in inspect.getsource(model_class) and isinstance(window, int):
        frames = 4 * window
        changed = {"input_features": image((1, config.num_mel_bins, frames), device)}
        if "input_features_mask" in made:
            changed["input_features_mask"] = torch.ones((1, frames), dtype=torch.long, device=device)
        return changed
    sizes = getattr(config, "patch_sizes", None)
    audio = getattr(config, "audio_config", None) or config
    if "input_values" in made and "padding_mask" in names and hasattr(audio, "dac_config"):
        return {"input_values": made["input_values"].reshape(1, 1, -1)}
    if "input_values" in made and isinstance(sizes, (list, tuple)):
        return {"input_values": image((1, 8 * math.prod(sizes)), device)}
    if hasattr(config, "subsampling_conv_channels") and "input_features" in made:
        bins = getattr(config, "num_mel_bins", 128)  # halved some times, times the last channels: the width
        return {"input_features": image((1, 256, bins), device)}
    if hasattr(config, "input_feat_size") and "audio_mel" in names:
        mask = torch.zeros((1, 256), dtype=torch.bool, device=device)  # True is padding
        return {"audio_mel": image((1, 256, config.input_feat_size), device), "audio_mel_mask": mask}
    if hasattr(config, "num_stacked_frames") and "input_features_mask" in made:
        return {"input_features_mask": torch.ones(made["input_features"].shape[:2], dtype=torch.long, device=device)}
    if "input_features" in made and hasattr(config, "num_mel_bins") and made["input_features"].ndim == 3:
        source = inspect.getsource(model_class.__init__)
        if "Conv1d(config.num_mel_bins" in source and made["input_features"].shape[1] != config.num_mel_bins:
            return {"input_features": made["input_features"].transpose(1, 2).contiguous()}
        if hasattr(config, "subsample_layers"):  # four frames of one sixteenth of a second each are one
            return {"input_features": image((1, 256, 4 * config.num_mel_bins), device)}
    return {}
