"""Data fitted to models, and what is said about it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from skipgrad.core import BadInput, DataError, ModelError
from skipgrad.models import fit

# Other people's deprecations, raised while their libraries are imported or their models built.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

TINY_GPT = {"n_layer": 2, "n_embd": 16, "n_head": 2}


def said(work, *words):
    text = " | ".join(work.fit)
    return all(word in text for word in words)


def loss_of(work):
    torch.manual_seed(0)
    batch, model = work.example, work.build()
    loss = work.loss(model(*batch.args, **batch.kwargs), batch)
    loss.backward()
    return loss


def test_resnet18_on_digits():
    work = fit("torchvision:resnet18", {}, "digits", batch_size=4)
    assert said(work, "num_classes=10", "repeated from 1 to 3", "8×8 to 32×32")
    assert work.example.args[0].shape == (4, 3, 32, 32)
    assert work.name == "torchvision:resnet18 on digits"
    assert torch.isfinite(loss_of(work))


@pytest.mark.parametrize(
    ("ref", "size", "words"),
    [
        ("timm:vit_tiny_patch16_224", 32, "img_size=32"),
        ("torchvision:vit_b_16", 32, "image_size=32"),
        ("timm:convnext_atto", 32, "in_chans=1"),
        ("torchvision:swin_t", 32, "8×8 to 32×32"),
        ("torchvision:inception_v3", 299, "299×299"),
        ("monai:DenseNet121", 32, "out_channels=10"),
        ("transformers:vit", 32, "num_labels=10"),
        ("skipgrad:highway2", 8, "digits"),
        ("skipgrad:plain8", 8, "digits"),
    ],
)
def test_size_and_head_of_image_models(ref, size, words):
    work = fit(ref, {}, "digits", batch_size=4)
    batch = work.example
    x = batch.args[0] if batch.args else batch.kwargs["pixel_values"]
    assert x.shape[-1] == size
    assert said(work, words)


@pytest.mark.parametrize("ref", ["smp:Unet", "torchvision:fcn_resnet50", "monai:UNet", "transformers:segformer"])
def test_segmentation(ref):
    args = {"depths": [1, 1, 1, 1]} if "segformer" in ref else {}
    work = fit(ref, args, "shapes", batch_size=2)
    assert work.task == "segmentation"
    assert torch.isfinite(loss_of(work))


@pytest.mark.parametrize(
    ("ref", "args"),
    [
        ("transformers:gpt2", TINY_GPT),
        ("transformers:bert", {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}),
        (
            "transformers:llama",
            {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8},
        ),
        ("transformers:t5", {"num_layers": 1, "d_model": 16, "d_ff": 16}),
    ],
)
def test_language_models_predict_the_next_byte_from_the_past_alone(ref, args):
    work = fit(ref, args, "text", batch_size=2)
    assert said(work, "vocab_size=256")
    torch.manual_seed(0)
    model, batch = work.build().eval(), work.example
    key = "decoder_input_ids" if "t5" in ref else "input_ids"
    logits = model(**batch.kwargs).logits
    assert torch.allclose(
        work.loss(model(**batch.kwargs), batch), F.cross_entropy(logits.flatten(0, 1), batch.target.flatten())
    )
    changed = dict(batch.kwargs)
    changed[key] = changed[key].clone()
    changed[key][:, -1] = (changed[key][:, -1] + 1) % 256
    difference = (model(**changed).logits - logits).abs().amax((0, 2))
    assert difference[:-1].max() < 1e-5
    assert difference[-1] > 1e-5
    assert torch.equal(batch.kwargs[key][:, 1:], batch.target[:, :-1])


def test_other_arguments_are_left_alone():
    work = fit("transformers:gpt2", {**TINY_GPT, "n_positions": 32}, "text", batch_size=2)
    assert work.build().config.n_layer == 2
    assert said(work, "cut to the 32 tokens")
    assert work.example.kwargs["input_ids"].shape == (2, 32)
    work = fit("skipgrad:preln1", {"vocab": 300, "d_model": 8, "heads": 1}, "text", batch_size=2)
    assert work.build().head.out_features == 300
    work = fit("torchvision:resnet18", {"num_classes": 12}, "digits", batch_size=2)
    assert said(work, "12 outputs, of which the data use the first 10")
    work = fit("skipgrad:plain8", {"in_channels": 3}, "digits", batch_size=2)
    assert said(work, "repeated from 1 to 3")


@pytest.mark.parametrize(
    ("ref", "args", "data", "words"),
    [
        ("skipgrad:plain8", {"num_classes": 5}, "digits", "the head has 5 outputs"),
        ("skipgrad:plain8", {}, "text", "does not read text"),
        ("skipgrad:preln1", {}, "digits", "reads token ids"),
        ("skipgrad:unet", {}, "digits", "(N, classes)"),
        ("skipgrad:plain8", {}, "shapes", "(N, classes, H, W)"),
        ("skipgrad:preln1", {"vocab": 100}, "text", "vocabulary of 100"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, "digits", "learns from boxes"),
        ("skipgrad:resnet8", {}, "detection", "no detector"),
        ("skipgrad:fasterrcnn", {"num_classes": 3}, "detection", "labels up to 3, for 3 classes"),
        ("torchvision:raft_small", {}, "shapes", "two images"),
        ("diffusers:UNet2DModel", {}, "digits", "remove noise"),
    ],
)
def test_what_does_not_fit_is_explained(ref, args, data, words):
    with pytest.raises(DataError) as error:
        fit(ref, args, data, batch_size=4)
    assert words in str(error.value)


TINY_DIFFUSION = {
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
}


def test_a_diffusion_net_gets_the_level_as_its_time():
    work = fit("diffusers:UNet2DModel", TINY_DIFFUSION, "denoise:digits", batch_size=4)
    assert said(work, "'timestep', not as a channel", "in_channels=1", "out_channels=1")
    torch.manual_seed(0)
    batch = next(work.batches(0))
    assert batch.args == ()
    assert batch.kwargs["sample"].shape == batch.target.shape == (4, 1, 8, 8)
    time = batch.kwargs["timestep"]
    assert (time.dtype, time.shape) == (torch.int64, (4,))
    assert 0 <= int(time.min()) < int(time.max()) < 1000
    assert torch.isfinite(loss_of(work))
    with pytest.raises(DataError, match="3, for images of 1 channel"):
        fit("diffusers:UNet2DModel", {**TINY_DIFFUSION, "in_channels": 3}, "denoise:digits", batch_size=4)


def test_batches_that_cannot_be_drawn():
    with pytest.raises(BadInput, match="at least 1"):
        fit("skipgrad:plain8", {}, "digits", batch_size=0)
    with pytest.raises(DataError, match="at most 1797"):
        fit("skipgrad:plain8", {}, "digits", batch_size=1798)


NET = """
import torch, torch.nn as nn
class Deep(nn.Module):
    def forward(self, x):
        raise RuntimeError("the deep one fails")
class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.inner = nn.Sequential(nn.ReLU(), Deep())
    def forward(self, x):
        return self.inner(self.conv(x))
class Mnist(nn.Module):
    def __init__(self, n_classes=10):
        super().__init__()
        self.l = nn.Linear(28 * 28, n_classes)
    def forward(self, x):
        return self.l(x.flatten(1))
class Peeks(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(64, 10)
    def forward(self, x):
        assert x.abs().max().item() < 1e9
        return self.l(x.flatten(1))
class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.l = nn.Embedding(100, 4), nn.Linear(4, 256)
    def forward(self, ids):
        return self.l(self.e(ids))
class Vector(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(6, 3)
    def forward(self, x):
        return self.l(x)
def rows(highest=3):
    g = torch.Generator().manual_seed(0)
    return [(torch.randn(6, generator=g), i % highest) for i in range(24)]
def wrong_rows(): return rows(5)
"""


@pytest.fixture
def net(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(NET)
    return file


def test_a_forward_that_raises_names_the_module(net):
    with pytest.raises(ModelError) as error:
        fit(f"{net}:Broken", {}, "digits", batch_size=4)
    assert "the deep one fails" in str(error.value)
    assert "'inner.1'" in str(error.value)
    assert "(4, 1, 8, 8) float32" in str(error.value)


def test_a_net_of_one_size_gets_that_size(net):
    work = fit(f"{net}:Mnist", {}, "digits", batch_size=4)
    assert work.example.args[0].shape == (4, 1, 28, 28)


def test_a_net_that_looks_at_values_is_probed_with_values(net):
    work = fit(f"{net}:Peeks", {}, "digits", batch_size=4)
    assert torch.isfinite(loss_of(work))


def test_batches_depend_on_the_seed_alone_and_can_be_resumed():
    work = fit("skipgrad:plain8", {}, "digits", batch_size=64)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    stream = work.batches(7)
    first = [next(stream) for _ in range(60)]  # more than two passes of 28
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again = work.batches(7)
    assert all(torch.equal(a.args[0], next(again).args[0]) for a in first)
    resumed = work.batches(7, start=40)
    assert all(torch.equal(a.args[0], next(resumed).args[0]) for a in first[40:])
    assert not torch.equal(next(work.batches(8)).args[0], first[0].args[0])
    assert not torch.equal(first[28].args[0], first[0].args[0])


def test_each_pass_sees_each_sample_once(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("import torch\ndef data(): return [(torch.full((1, 8, 8), float(i)), i % 2) for i in range(12)]\n")
    work = fit("skipgrad:plain8", {}, f"{file}:data", batch_size=4)
    stream = work.batches(0)
    for _ in range(2):
        seen = torch.cat([next(stream).args[0][:, 0, 0, 0] for _ in range(3)])
        assert sorted(seen.tolist()) == list(range(12))


def test_fitting_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    fit("skipgrad:plain8", {}, "digits", batch_size=4)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_batch_to_moves_every_tensor():
    batch = fit("skipgrad:preln1", {}, "text", batch_size=2).example.to("meta")
    assert batch.args[0].is_meta
    assert batch.target.is_meta
    assert batch.size == 2


def test_masks_are_resized_with_images():
    work = fit("timm:vit_tiny_patch16_224", {}, "digits", batch_size=2)
    assert work.example.args[0].shape[-1] == 32
    work = fit("smp:DeepLabV3Plus", {}, "shapes", batch_size=2)
    batch = work.example
    assert batch.target.shape[1:] == batch.args[0].shape[2:]


def test_an_embedding_too_small_for_bytes(net):
    with pytest.raises(DataError, match="vocabulary of 100"):
        fit(f"{net}:Reads", {}, "text", batch_size=4)


def test_rows_of_features_go_to_the_model_as_they_are(net):
    work = fit(f"{net}:Vector", {}, f"{net}:rows", batch_size=8)
    assert work.task == "custom"
    assert torch.isfinite(loss_of(work))
    work = fit(f"{net}:Vector", {}, f"{net}:wrong_rows", batch_size=24)
    with pytest.raises(DataError, match="the label 4; the head has 3 outputs"):
        loss_of(work)


def test_a_module_in_the_working_folder_is_found(net, monkeypatch):
    (net.parent / "net_in_here.py").write_text(NET)
    monkeypatch.chdir(net.parent)
    assert fit("net_in_here:Mnist", {}, "digits", batch_size=4).model.build().l.in_features == 28 * 28
