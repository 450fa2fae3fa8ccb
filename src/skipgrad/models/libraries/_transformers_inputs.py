"""Example inputs for a model of transformers, from the shapes that its forward documents.

A forward's docstring says of an argument:
``(`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`)``.
The words in that shape are looked up in the configuration. Where nothing is documented, the argument's name decides.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import torch

from skipgrad.models.libraries._transformers_special import special
from skipgrad.models.source import ids, image

LENGTH = 16  # tokens of a text
FRAMES = 256  # frames of a spectrogram, where the model does not ask for a number of its own
SAMPLES = 16000  # of a sound

# Arguments that have a default, and without which the forward raises all the same.
_WANTED = (
    "decoder_input_ids", "bbox", "pixel_values_videos", "prompt_pixel_values", "high_res_pixel_values", "visual_feats",
    "visual_pos", "input_features_mask", "past_time_features", "encoder_hidden_states",
)  # fmt: skip
# With these among the tokens, a picture's features replace placeholders; how many there are depends on the values.
_PLACEHOLDERS = (
    "image_token_id",
    "image_token_index",
    "image_token",
    "video_token_id",
    "audio_token_id",
    "audio_token_index",
)
# Names of the number of bins of a spectrogram.
_BINS = (
    "num_mel_bins", "feature_projection_input_dim", "feature_size", "input_feat_per_channel", "input_dim", "num_mels",
    "input_feat_size",
)  # fmt: skip
_DOCUMENTED = (
    r"^\s*{name} \(`?(?P<kind>[^`)]*)`?(?: or [^)]*?)?,? of shape `?"
    r"(?:\((?P<shape>[^)]*)\)|\[(?P<list>[^\n`]*)\])(?P<rest>.*)$"
)
# What may be given in place of something else, or is for the loss only.
_CHOICES = (
    "inputs_embeds", "decoder_inputs_embeds", "labels", "encoder_outputs", "past_key_values", "position_ids",
    "input_points", "input_labels", "input_boxes", "input_masks", "bool_masked_pos", "image_embeddings",
    "image_hidden_states", "entity_ids",
)  # fmt: skip


def example(config: Any, model_class: Any, shape: tuple[int, ...] | None, device: str) -> dict[str, Any]:
    """The keyword arguments of the forward.

    Args:
        config: the model's configuration.
        model_class: its class.
        shape: shape of the main input; its natural shape when None.
        device: where to make them.
    """
    parameters = inspect.signature(model_class.forward).parameters
    main = main_input(model_class)
    required = [
        p.name
        for p in parameters.values()
        if p.name != "self" and p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if main not in parameters:
        main = required[0] if required else main
    # Some have a default and are documented as if they had none: the forward raises without them all the same.
    told = [name for name in parameters if name not in _CHOICES and _documented(name, model_class)[2]]
    wanted = [*told, *(name for name in _WANTED if name in parameters and _is_wanted(name, config))]
    if not any(hasattr(config, name) for name in _PLACEHOLDERS):
        # Two towers side by side (CLIP) want all they read; one that is left out would not run.
        towers = {
            "vision_config": "pixel_values", "audio_config": "input_features", "speech_config": "input_features",
            "text_config": "input_ids",
        }  # fmt: skip
        wanted += [
            name for key, name in towers.items() if getattr(config, key, None) is not None and name in parameters
        ]
    if "input_ids" in parameters and not any(name.startswith(("pixel_", "input_f", "input_v")) for name in parameters):
        wanted.append("input_ids")  # whatever its main input is said to be
    names = dict.fromkeys([main, *required, *wanted])
    made = {name: _make(name, config, model_class, device) for name in names}
    made |= special(config, model_class, device, made)
    if shape is not None:
        made[main] = _like(made[main], shape, device)
        if "decoder_input_ids" in made and len(shape) == 2 and not made[main].is_floating_point():
            made["decoder_input_ids"] = ids(shape, device, _vocabulary(config))
    return made


def main_input(model_class: Any) -> str:
    """The name of a model's main input; of several (OneFormer), the first."""
    main = getattr(model_class, "main_input_name", "input_ids")
    return main if isinstance(main, str) else main[0]


def pixels(config: Any) -> tuple[int, ...]:
    """Shape of the pictures, or the films, that a configuration is for."""
    vision = _part(config, "vision_config", "image_size", "num_channels")
    backbone = getattr(config, "backbone_config", None)
    nested = [
        getattr(config, "prompt_encoder_config", None),  # of SAM: the pictures its masks lie on
        getattr(getattr(config, "vision_config", None), "backbone_config", None),
        backbone if hasattr(backbone, "num_windows") else None,  # others take pictures of any size
    ]
    sizes = (getattr(part, "image_size", None) for part in (vision, config, *nested))
    size = next((size for size in sizes if size), None) or _least(getattr(config, "vision_config", None) or config)
    height, width = _pair(size)
    frames = getattr(vision, "num_frames", None)
    channels = _channels(vision)
    return (1, frames, channels, height, width) if frames else (1, channels, height, width)


def _least(config: Any) -> int:
    """Side of a picture where no size is configured."""
    if ratios := getattr(config, "scaled_images_ratios", None):  # Depth Pro cuts patches out of smaller copies, too
        return int(config.patch_size / min(ratios))
    named = re.search(r"_(\d{3,4})$", getattr(config, "architecture", None) or "")  # of timm
    return int(named[1]) if named else 224


def _is_wanted(name: str, config: Any) -> bool:
    if name == "decoder_input_ids":
        return bool(getattr(config, "is_encoder_decoder", False))
    if name == "pixel_values_videos":
        return not any(hasattr(config, key) for key in _PLACEHOLDERS)
    if name == "encoder_hidden_states":  # a Q-Former does nothing but look at them
        return hasattr(config, "cross_attention_frequency")
    return True


def _like(tensor: Any, shape: tuple[int, ...], device: str) -> torch.Tensor:
    if isinstance(tensor, torch.Tensor) and not tensor.is_floating_point():
        top = 2 if tensor.is_meta or not tensor.numel() else int(tensor.max()) + 1
        return ids(shape, device, top)
    return image(shape, device)


def _make(name: str, config: Any, model_class: Any, device: str) -> Any:
    kind, words, _ = _documented(name, model_class)
    if name in ("input_ids", "decoder_input_ids"):
        return ids((1, LENGTH), device, _vocabulary(config))
    if name.endswith("grid_thw"):
        height, width = _grid(config)
        return _values([[1, height, width]], device)
    if name == "bbox":
        return ids((1, LENGTH, 4), device, 2)
    if name == "hidden_states" and "grid_thw" in inspect.signature(model_class.forward).parameters:
        return image((_patches(config), _patch_size(config)), device)
    if name == "pixel_values" and "grid_thw" in "".join(inspect.signature(model_class.forward).parameters):
        return image((_patches(config), _patch_size(config)), device)
    if "spatial_shapes" in inspect.signature(model_class.forward).parameters and name.startswith("pixel_"):
        patches = getattr(_part(config, "vision_config", "num_patches"), "num_patches", 256)  # SigLIP 2
        if name == "pixel_values":
            return image((1, patches, _patch_size(_part(config, "vision_config", "patch_size"))), device)
        return _ones((1, patches), device)
    if name in ("pixel_values", "pixel_values_videos", "prompt_pixel_values", "high_res_pixel_values"):
        return image(_picture(name, words, config), device)
    if name == "input_features":
        return image(_spectrogram(words, config), device)
    if name in ("input_values", "audio_values"):
        if len(words) == 3 and ("mel" in words[2] or "num_mel" in words[2]):
            return image(tuple(_size(word, config) for word in words), device)
        return image((1, 1, SAMPLES) if len(words) == 3 else (1, SAMPLES), device)
    if name == "inputs":  # Perceiver takes anything; its classifiers take pictures
        return image((1, *pixels(config)[-3:]) if hasattr(config, "image_size") else (1, SAMPLES), device)
    if name == "encoder_hidden_states":
        width = getattr(config, "encoder_hidden_size", None) or _size("hidden_size", config)
        return image((1, LENGTH, width), device)
    if name == "spatial_shapes":  # SigLIP 2: rows and columns of patches
        side = int(getattr(_part(config, "vision_config", "num_patches"), "num_patches", 256) ** 0.5)
        return _values([[side, side]], device)
    if name == "input_features_mask":
        return _ones((1, max(_spectrogram(_documented("input_features", model_class)[1], config)[1:])), device)
    sizes = tuple(_size(word, config) for word in words) if words else _by_name(name, config)
    if "Long" in kind or "Int" in kind or name.endswith(("_ids", "_mask", "timesteps")):
        return ids(sizes, device, 2) if not name.endswith("mask") else _ones(sizes, device)
    if "Bool" in kind:
        return _ones(sizes, device).bool()
    return image(sizes, device)


def _documented(name: str, model_class: Any) -> tuple[str, list[str], bool]:
    """Kind of tensor, words of its shape, and whether it must be given; empty where the docstring is silent."""
    text = model_class.forward.__doc__ or ""
    found = re.search(_DOCUMENTED.format(name=re.escape(name)), text.partition("Returns:")[0], re.MULTILINE)
    if found is None:
        return "", [], False
    words = [w.strip(" `") for w in (found["shape"] or found["list"]).split(",") if w.strip(" `")]
    return found["kind"], words, "optional" not in found["rest"] and "default" not in found["rest"]


def _by_name(name: str, config: Any) -> tuple[int, ...]:
    width = _size("hidden_size", config)
    if name.endswith(("mask", "ids")):
        return (1, LENGTH)
    if name.startswith("past_"):
        return (1, _size("context_length", config))
    return (1, LENGTH, width)


def _size(word: str, config: Any) -> int:
    """The number a word in a documented shape stands for; the words may be multiplied and added."""
    if word.isdigit():
        return int(word)
    if counted := re.fullmatch(r"len\(config\.(\w+)\)", word):
        return len(getattr(config, counted[1]))
    for sign, combined in ((" + ", sum), (" * ", math.prod)):
        if sign in word:
            return int(combined(_size(part.strip(), config) for part in word.split(sign)))
    for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
        value = getattr(part, word.removeprefix("config."), None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    aliases = {
        "batch_size": 1, "height": pixels(config)[-2], "width": pixels(config)[-1], "num_frames": 16,
        "num_channels": _channels(config), "hidden_size": 64, "dim": 64, "embed_dim": 64,
        "num_input_channels": 1, "context_length": 64, "patch_height": 16, "patch_width": 16, "image_channels": 3,
    }  # fmt: skip
    return aliases.get(word, LENGTH)


def _picture(name: str, words: list[str], config: Any) -> tuple[int, ...]:
    shape = pixels(config)
    if name == "pixel_values_videos":
        frames = shape[1] if len(shape) == 5 else getattr(config, "frames_per_clip", 16)
        return (1, frames, *shape[-3:])
    if len(words) == 5 and len(shape) == 4:  # several pictures a sample
        return (1, 1, *shape[1:])
    if name == "high_res_pixel_values":
        size = getattr(getattr(config, "high_res_vision_config", None), "image_size", 1024)
        return (1, shape[1], *_pair(size))
    return shape


def _spectrogram(words: list[str], config: Any) -> tuple[int, ...]:
    audio = _part(config, "audio_config", "num_mel_bins", "feature_size")
    for key in ("encoder_config", "semantic_model_config", "asr_config", "decoder_config"):
        if audio is config or key == "encoder_config":
            audio = _part(audio, key, "num_mel_bins", "feature_size", "feature_projection_input_dim")
    bins = next((v for n in _BINS if isinstance(v := getattr(audio, n, None), int)), 80)
    bins *= getattr(audio, "num_stacked_frames", 1)
    positions = getattr(audio, "max_source_positions", None)
    if getattr(audio, "spec_size", None):  # CLAP: a picture of the sound
        return (1, 1, 4 * audio.spec_size, bins)
    if hasattr(audio, "feature_projection_input_dim"):
        return (1, FRAMES, bins)
    if isinstance(positions, int) and not hasattr(audio, "input_feat_per_channel"):
        return (
            1,
            bins,
            2 * positions,
        )  # Whisper and its kin, whatever their docstring says: the number of frames is fixed
    if len(words) == 2 and not any(hasattr(audio, n) for n in _BINS):
        return (1, FRAMES)
    last = words[2] if len(words) == 3 else ""
    return (1, bins, FRAMES) if "sequence" in last or "length" in last else (1, FRAMES, bins)


def _grid(config: Any) -> tuple[int, int]:
    merge = getattr(config, "spatial_merge_size", 2) or 2
    return 4 * merge, 4 * merge


def _patches(config: Any) -> int:
    height, width = _grid(config)
    return height * width


def _patch_size(config: Any) -> int:
    side = _pair(getattr(config, "patch_size", 14))
    return (
        _channels(config)
        * (getattr(config, "temporal_patch_size", None) or getattr(config, "patch_temporal", None) or 1)
        * side[0]
        * side[1]
    )


def _channels(config: Any) -> int:
    for name in ("num_channels", "in_channels", "in_chans", "num_input_channels"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return 3


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[0])) if len(size) == 1 else (int(size[0]), int(size[1]))


def _part(config: Any, key: str, *names: str) -> Any:
    """The nested configuration that knows one of the names, else the outer one."""
    inner = getattr(config, key, None)
    return inner if inner is not None and any(hasattr(inner, n) for n in names) else config


def _vocabulary(config: Any) -> int:
    text = getattr(config, "text_config", None) or config
    size = getattr(text, "vocab_size", None) or getattr(config, "vocab_size", None) or 2
    return size if isinstance(size, int) else 2


def _values(rows: list[list[int]], device: str) -> torch.Tensor:
    return torch.tensor(rows, device=device)


def _ones(shape: tuple[int, ...], device: str) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.long, device=device)
