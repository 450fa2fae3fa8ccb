"""What a sweep does with a model whose default configuration does not run, and whose fault it is."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
# transformers announces renamed arguments while a model is built
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sweep_small")


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sweep_job")


def config(name: str, **args: Any) -> Any:
    import transformers

    return transformers.CONFIG_MAPPING[name](**args)


def test_numbers_left_open_are_filled_in(small: Any) -> None:
    assert small.missing(config("esm"))["vocab_size"] == 1000
    assert small.missing(config("ministral"))["head_dim"] == 4096 // 32
    assert "hidden_size" not in small.missing(config("esm"))  # what is set stays


@pytest.mark.parametrize("name", ["llama", "llava", "glm4v", "deepseek_v3"])
def test_smaller_widths_still_fit_each_other(small: Any, name: str) -> None:
    config_class = type(config(name))
    before, after = (
        config(name),
        config_class(**small.merged(small.fewer_layers(config(name)), small.narrower(config(name)))),
    )

    def check(one: Any, other: Any) -> None:
        assert other.hidden_size < one.hidden_size
        assert other.hidden_size % other.num_attention_heads == 0
        assert other.num_attention_heads % (getattr(other, "num_key_value_heads", None) or 1) == 0
        assert one.hidden_size // one.num_attention_heads == other.hidden_size // other.num_attention_heads

    check(before.get_text_config(), after.get_text_config())
    text, inner = before.get_text_config(), getattr(before, "vision_config", None)
    if inner is not None and hasattr(
        inner, "out_hidden_size"
    ):  # the picture's features are still as wide as the tokens'
        assert inner.out_hidden_size == text.hidden_size
        assert after.vision_config.out_hidden_size == after.text_config.hidden_size


def test_nested_arguments_are_merged(small: Any) -> None:
    assert small.merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}, "e": 6}) == {
        "a": {"b": 5, "c": 2},
        "d": 3,
        "e": 6,
    }


@pytest.mark.parametrize(("name", "word"), [("esm", "filled"), ("gpt2", ""), ("kimi_k25_vision", "")])
def test_the_record_says_how_the_configuration_was_changed(job: Any, name: str, word: str) -> None:
    record = job.examine(f"transformers:{name}")
    assert record["ok"], record["reason"]
    assert record["class"] == "traced"
    assert {w for w in ("filled", "small") if record[w]} == ({word} if word else set())
    assert record["add"] == 4


def source(model: nn.Module | None, error: Exception | None = None) -> Any:
    def build() -> nn.Module:
        if error is not None:
            raise error
        assert model is not None
        return model

    return SimpleNamespace(build=build, example=lambda shape, device: ((torch.zeros(1, 3),), {}))


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no picture")


def test_whose_fault_it_is(job: Any) -> None:
    met = RuntimeError("met by find")
    assert job._fault([(source(nn.Linear(3, 3)), met)]) == "find"  # it runs: only find fails
    assert job._fault([(source(Raises()), met)]) == "model"
    assert job._fault([(source(None, ValueError("refused")), met)]) == "model"
    assert job._fault([(source(None, ImportError("no natten")), ImportError("no natten"))]) == "library"
    huge = nn.Linear(20_000, 20_000, device="meta")  # 1.6 GB
    assert job._fault([(source(huge), met)]) == "undecided"
    assert job._fault([(source(huge), met), (source(nn.Linear(3, 3)), met)]) == "find"  # the smaller one tells


def test_a_library_that_is_not_installed_is_no_failure(job: Any) -> None:
    assert job.class_of(ImportError("DinatModel requires the natten library but it was not found")) == "library"
    assert job.class_of(MemoryError("its weights would take 13 GB")) == "undecided"
    assert job.class_of(ValueError("shape")) == "model"


def teardown_module() -> None:
    for name in ("sweep_small", "sweep_job"):
        sys.modules.pop(name, None)
