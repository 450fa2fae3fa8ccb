"""Example inputs for transformers' models: those that the forward documents and cannot do without."""

from __future__ import annotations

from typing import Any

import pytest

from skipgrad.finder import find_built
from skipgrad.models import resolve_model

pytest.importorskip("transformers")
# transformers announces renamed arguments while a model is built
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
SMALL = {"num_hidden_layers": 2}

# type: (constructor arguments, names and shapes of the inputs)
CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "chinese_clip": ({}, {"input_ids": (1, 16), "pixel_values": (1, 3, 224, 224)}),
    "whisper": ({}, {"input_features": (1, 80, 3000), "decoder_input_ids": (1, 16)}),
    "speech_to_text": ({}, {"input_features": (1, 256, 80), "decoder_input_ids": (1, 16)}),
    "wav2vec2": (SMALL, {"input_values": (1, 16000)}),
    "audio-spectrogram-transformer": (SMALL, {"input_values": (1, 1024, 128)}),
    "deit": (SMALL, {"pixel_values": (1, 3, 224, 224)}),  # one type, two classes
    "videomae": (SMALL, {"pixel_values": (1, 16, 3, 224, 224)}),
    "lxmert": ({}, {"input_ids": (1, 16), "visual_feats": (1, 16, 2048), "visual_pos": (1, 16, 4)}),
    "depth_anything": ({}, {"pixel_values": (1, 3, 224, 224)}),  # only AutoModelForDepthEstimation knows it
    "jamba": ({"num_hidden_layers": 2}, {"input_ids": (1, 16)}),  # no softmax attention among two layers: no cache
    "decision_transformer": (
        {"n_layer": 2},
        {
            "states": (1, 16, 17),
            "actions": (1, 16, 4),
            "rewards": (1, 16, 1),
            "returns_to_go": (1, 16, 1),
            "timesteps": (1, 16),
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_forward_runs_on_what_it_documents(name: str) -> None:
    given, expected = CASES[name]
    source = resolve_model(f"transformers:{name}", given)
    args, kwargs = source.example()
    assert args == ()
    assert {key: tuple(value.shape) for key, value in kwargs.items()} == expected
    graph = find_built(source.build, lambda device: source.example(None, device))
    assert graph.how in ("meta", "fake"), graph.notes  # no memory was needed
    assert len(graph) > 0


def test_a_shape_is_that_of_the_main_input() -> None:
    def shapes(name: str, *shape: int) -> list[tuple[int, ...]]:
        _, kwargs = resolve_model(f"transformers:{name}").example(shape)
        return [tuple(value.shape) for value in kwargs.values()]

    assert shapes("bert", 2, 5) == [(2, 5)]
    assert shapes("t5", 2, 5) == [(2, 5), (2, 5)]
    assert shapes("vit", 2, 3, 64, 64) == [(2, 3, 64, 64)]


def test_a_picture_among_tokens_is_left_out() -> None:
    # How many tokens it takes the place of depends on the values of the tokens.
    _, kwargs = resolve_model("transformers:llava").example()
    assert set(kwargs) == {"input_ids"}


def test_examples_with_memory_hold_what_the_forward_may_look_up() -> None:
    _, kwargs = resolve_model("transformers:layoutlm").example(device="cpu")
    assert kwargs["input_ids"].max() < 30522
    assert kwargs["bbox"].shape == (1, 16, 4)
    assert int(kwargs["bbox"].max()) <= 1000
    _, kwargs = resolve_model("transformers:qwen2_5_vl_vision").example(device="cpu")
    grid = kwargs["grid_thw"]
    assert int(grid.prod()) == kwargs["hidden_states"].shape[0]
