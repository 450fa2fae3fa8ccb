"""The ledger on real models, at small sizes, against their own calls made again with a copy of x for every use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from ledger.replay import brute
from skipgrad.instrument.tensors import tensors_in

Made = tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]


def loss_of(output: Any) -> Tensor:
    """A loss that pulls every output in a direction of its own."""
    total = torch.zeros(())
    for t in tensors_in(output):
        if t.is_floating_point() and t.requires_grad:
            pull = torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view(t.shape)
            total = total + (t * pull).mean() + t.pow(2).mean()
    return total


def images(size: int = 32) -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, size, size),)


def vision(name: str) -> Made:
    return getattr(pytest.importorskip("torchvision").models, name)(num_classes=10), images(), {}


def unet() -> Made:
    return pytest.importorskip("segmentation_models_pytorch").Unet("resnet18", encoder_weights=None), images(), {}


def convnext() -> Made:
    return pytest.importorskip("timm").create_model("convnext_atto", num_classes=5), images(), {}


def cait() -> Made:
    cls = pytest.importorskip("timm.models.cait").Cait
    return cls(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4, num_classes=5), images(), {}


def gpt2() -> Made:
    tf = pytest.importorskip("transformers")
    config = tf.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0)
    return tf.GPT2LMHeadModel(config), (), {"input_ids": torch.randint(0, 50, (2, 8)), "use_cache": False}


def t5() -> Made:
    tf = pytest.importorskip("transformers")
    config = tf.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    ids = {"input_ids": torch.randint(0, 50, (2, 8)), "decoder_input_ids": torch.randint(0, 50, (2, 6))}
    return tf.T5ForConditionalGeneration(config), (), {**ids, "use_cache": False}


MODELS: dict[str, tuple[Callable[[], Made], int]] = {
    "resnet50": (lambda: vision("resnet50"), 16),
    "densenet121": (lambda: vision("densenet121"), 58),
    "smp Unet": (unet, 12),
    "ConvNeXt": (convnext, 12),
    "CaiT": (cait, 11),
    "GPT-2": (gpt2, 4),
    "T5": (t5, 10),
}


def compared(made: Made, dtype: torch.dtype, digits: float) -> sg.Ledger:
    model, args, kwargs = made[0].to(dtype).train(), tuple(a.to(dtype) for a in made[1]), made[2]
    torch.manual_seed(0)
    with sg.watch(model) as ledger:
        loss_of(model(*args, **kwargs)).backward()
    rows = {r.skip: r for r in ledger.rows()}
    expected = brute(model, args, kwargs, loss_of, rows)
    for name, answer in expected.items():
        for column, value in answer.items():
            least = digits if column == "cosine" else 0
            # The sizes of x and F(x) are those of a sample where the tensors are large.
            most = 0.05 if column in ("x_rms", "branch_rms") else digits
            assert getattr(rows[name], column) == pytest.approx(value, rel=most, abs=least), (name, column)
    return ledger


@pytest.mark.parametrize("name", MODELS)
def test_float64_to_ten_digits(name: str) -> None:
    torch.manual_seed(0)
    make, count = MODELS[name]
    ledger = compared(make(), torch.float64, 1e-10)
    assert len(ledger.rows()) == count
    assert ledger.notes == []


@pytest.mark.parametrize("name", ["resnet50", "smp Unet", "ConvNeXt", "GPT-2", "T5"])
def test_float32_to_six_digits(name: str) -> None:
    torch.manual_seed(0)
    make, count = MODELS[name]
    assert len(compared(make(), torch.float32, 1e-6).rows()) == count


def test_raft_measures_what_is_not_detached() -> None:
    torch.manual_seed(0)
    model = pytest.importorskip("torchvision").models.optical_flow.raft_small()
    made = model, (torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128)), {"num_flow_updates": 2}
    ledger = compared(made, torch.float32, 1e-6)  # its grids are float32 whatever it is given
    names = {r.skip for r in ledger.rows()}
    assert "feature_encoder.layer1.0" in names
    for skip in ledger.graph.skips:
        assert (skip.name in names) != any(n.startswith(f"{skip.name}: not measured") for n in ledger.notes)
    assert any("its fork is detached: S and B are zero by construction" in n for n in ledger.notes)


def test_the_indices_of_segnet_are_refused_by_name() -> None:
    from finder.vision_nets import SegNet

    model, args = SegNet(), images()
    with sg.watch(model) as ledger:
        loss_of(model(*args)).backward()
    assert ledger.rows() == []
    assert len(ledger.graph) == 4
    assert all("pooling indices carry no gradient" in n for n in ledger.notes)
    assert len(ledger.notes) == 4
