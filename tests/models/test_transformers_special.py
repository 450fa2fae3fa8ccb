"""Example inputs that no docstring tells: several pictures or codebooks a sample, patches, marked tokens, sounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from skipgrad.finder import find_built
from skipgrad.models import resolve_model

pytest.importorskip("transformers")
# transformers announces renamed arguments while a model is built
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
SMALL = {"num_hidden_layers": 2}

# type: (constructor arguments, names and shapes of the inputs)
CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "efficientloftr": ({}, {"pixel_values": (1, 2, 3, 224, 224)}),  # two pictures, to be matched
    "blip_2_qformer": (SMALL, {"query_embeds": (1, 16, 768), "encoder_hidden_states": (1, 16, 1408)}),
    "gemma4_audio": (SMALL, {"input_features": (1, 256, 128)}),
    "gemma3n_audio": ({"conf_num_hidden_layers": 2}, {"audio_mel": (1, 256, 128), "audio_mel_mask": (1, 256)}),
    "glmasr_encoder": (SMALL, {"input_features": (1, 128, 256)}),  # bins first, whatever its docstring says
    "parakeet_encoder": (SMALL, {"input_features": (1, 256, 80)}),
    "nemotron_asr_streaming_encoder": (SMALL, {"input_features": (1, 256, 80)}),
    "flava": (  # an attention mask of pictures, and no picture
        {"text_config": SMALL, "image_config": SMALL, "multimodal_config": SMALL},
        {"input_ids": (1, 16)},
    ),
    "granite_speech5_encoder": (SMALL, {"input_features": (1, 256, 320)}),
    "fun_asr_nano_encoder": (
        {**SMALL, "num_timestamp_prediction_layers": 2},
        {"input_features": (1, 256, 560), "input_features_mask": (1, 256)},
    ),
    "muse_spark_audio": ({}, {"input_values": (1, 15360)}),
    "patchtst": ({}, {"past_values": (1, 32, 1)}),
    "autoformer": (
        {"prediction_length": 8, "context_length": 16},
        {
            "past_values": (1, 23),
            "past_time_features": (1, 23, 0),
            "past_observed_mask": (1, 23),
            "future_values": (1, 8),
            "future_time_features": (1, 8, 0),
        },
    ),
    "pix2struct": (
        {"text_config": {"num_layers": 1}, "vision_config": SMALL},
        {"flattened_patches": (1, 144, 770), "decoder_input_ids": (1, 16)},
    ),
    "seggpt": (
        SMALL,
        dict.fromkeys(("pixel_values", "prompt_pixel_values", "prompt_masks"), (1, 3, 448, 448)),
    ),
    "kyutai_speech_to_text": (SMALL, {"input_ids": (1, 16, 33)}),
    "luke": (SMALL, {"input_ids": (1, 16)}),
    "modernvbert": ({"text_config": SMALL}, {"input_ids": (1, 16)}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_forward_runs_on_what_belongs_together(name: str) -> None:
    given, expected = CASES[name]
    source = resolve_model(f"transformers:{name}", given)
    args, kwargs = source.example()
    assert args == ()
    assert {key: tuple(value.shape) for key, value in kwargs.items()} == expected
    graph = find_built(source.build, lambda device: source.example(None, device))
    assert graph.how in ("meta", "fake"), graph.notes  # no memory was needed
    assert len(graph) > 0


def test_tokens_stand_for_as_many_features_as_a_picture_has() -> None:
    given = {"image_token_index": 5}
    _, kwargs = resolve_model("transformers:instructblip", given).example(device="cpu")
    config = resolve_model("transformers:instructblip", given).extra[0](given)
    assert int((kwargs["input_ids"] == 5).sum()) == config.num_query_tokens
    _, kwargs = resolve_model("transformers:kosmos-2").example(device="cpu")
    assert int(kwargs["image_embeds_position_mask"].sum()) == 64
    assert kwargs["image_embeds_position_mask"].shape == kwargs["input_ids"].shape


def test_every_patch_has_its_place() -> None:
    _, kwargs = resolve_model("transformers:gemma4_vision").example(device="cpu")
    places = kwargs["pixel_position_ids"]
    assert places.shape[:2] == kwargs["pixel_values"].shape[:2]
    assert len({tuple(place) for place in places[0].tolist()}) == places.shape[1]
    _, kwargs = resolve_model("transformers:minicpm_ocr_vision").example(device="cpu")
    assert int(kwargs["target_sizes"].prod()) * 16 == kwargs["pixel_values"].shape[-1]


def test_a_token_per_codebook() -> None:
    _, kwargs = resolve_model("transformers:dia").example(device="cpu")
    assert kwargs["decoder_input_ids"].shape == (1, 16, 9)
    assert kwargs["decoder_input_ids"].dtype == torch.long
