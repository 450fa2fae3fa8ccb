"""References to models of real libraries, built without memory."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

from skipgrad.core import BadInput, MissingExtra, ModelError, UnknownName
from skipgrad.models import main_output, resolve_model

RUNS = [
    "torchvision:resnet50",
    "torchvision:vit_b_16",
    "torchvision:fcn_resnet50",
    "torchvision:raft_small",
    "torchvision:googlenet",
    "torchvision:r3d_18",
    "timm:convnext_tiny",
    "timm:swin_tiny_patch4_window7_224",
    "timm:resnet18.a1_in1k",
    "transformers:gpt2",
    "transformers:bert",
    "transformers:t5",
    "transformers:vit",
    "transformers:llama",
    "transformers:clip",
    "diffusers:UNet2DModel",
    "diffusers:UNet2DConditionModel",
    "diffusers:DiTTransformer2DModel",
    "smp:Unet",
    "smp:FPN",
    "monai:UNet",
    "monai:DenseNet121",
]
# Other people's deprecations, raised while their libraries are imported or their models built.
FOREIGN = pytest.mark.filterwarnings("ignore::Warning")


@FOREIGN
@pytest.mark.parametrize("ref", RUNS)
def test_models_build_on_meta_and_run_their_example(ref):
    source = resolve_model(ref, {})
    assert source.ref == ref
    with torch.device("meta"):
        model = source.build()
    assert all(p.is_meta for p in model.parameters())
    args, kwargs = source.example()
    # googlenet's batch norm wants more than one sample in its side heads
    model.train(ref != "torchvision:googlenet")
    assert main_output(model(*args, **kwargs)).is_meta


@FOREIGN
def test_example_shapes():
    def shapes(ref, *shape):
        args, kwargs = resolve_model(ref, {}).example(shape or None)
        return [tuple(t.shape) for t in [*args, *kwargs.values()]]

    assert shapes("torchvision:resnet18") == [(1, 3, 224, 224)]
    assert shapes("torchvision:inception_v3") == [(1, 3, 299, 299)]
    assert shapes("torchvision:resnet18", 2, 3, 64, 64) == [(2, 3, 64, 64)]
    assert shapes("torchvision:raft_small") == [(1, 3, 128, 128)] * 2
    assert shapes("transformers:gpt2") == [(1, 16)]
    assert shapes("transformers:t5") == [(1, 16)] * 2
    assert shapes("skipgrad:plain20") == [(1, 1, 8, 8)]
    assert shapes("skipgrad:unet") == [(1, 1, 32, 32)]
    (images,), _ = resolve_model("torchvision:fasterrcnn_resnet50_fpn", {}).example()
    assert [tuple(i.shape) for i in images] == [(3, 224, 224)]


def test_examples_with_memory_are_real_and_reproducible():
    source = resolve_model("skipgrad:resnet8", {})
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    (first,), _ = source.example(device="cpu")
    (second,), _ = source.example(device="cpu")
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())
    (ids,), _ = resolve_model("skipgrad:preln1", {"vocab": 7}).example((2, 30), device="cpu")
    assert ids.shape == (2, 30)
    assert int(ids.max()) == 6


@FOREIGN
def test_weights_are_fresh_and_follow_the_seed():
    source = resolve_model("torchvision:resnet18", {})
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(source.build().conv1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@FOREIGN
@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("torchvision:resnet51", "resnet50"),
        ("timm:resnet_18", "resnet18"),
        ("transformers:gtp2", "gpt2"),
        ("diffusers:UNet2Model", "UNet2DModel"),
        ("smp:UNet", "Unet"),
        ("monai:UNett", "UNet"),
        ("torchvison:resnet50", "torchvision"),
        ("no_such_package.module:thing", "file.py:callable"),
        ("torch.nn:Linaer", "Linear"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(ref, words):
    with pytest.raises(UnknownName) as error:
        resolve_model(ref, {})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("resnet50", "torchvision:resnet50"),
        ("plain56", "skipgrad:plain56"),
        (":x", "LIBRARY:NAME"),
        ("timm:", "skipgrad:plain56"),
        ("", "LIBRARY:NAME"),
    ],
)
def test_a_reference_of_another_form_is_explained(ref, words):
    with pytest.raises(BadInput) as error:
        resolve_model(ref, {})
    assert words in str(error.value)


@FOREIGN
@pytest.mark.parametrize(
    ("ref", "args"),
    [
        ("torchvision:resnet18", {"weights": "DEFAULT"}),
        ("torchvision:fcn_resnet50", {"weights_backbone": "DEFAULT"}),
        ("timm:resnet18", {"pretrained": True}),
        ("smp:Unet", {"encoder_weights": "imagenet"}),
    ],
)
def test_pretrained_weights_are_refused(ref, args):
    with pytest.raises(BadInput, match="downloads nothing"):
        resolve_model(ref, args)


@FOREIGN
@pytest.mark.parametrize(
    ("ref", "args", "words"),
    [
        ("torchvision:resnet18", {"num_clases": 3}, "num_clases"),
        ("timm:resnet18", {"nonsense": 3}, "nonsense"),
        ("transformers:gpt2", {"nlayer": 3}, "did you mean n_layer"),
        ("transformers:gpt2", {"n_head": 7}, "7"),
        ("smp:Unet", {"encoder_name": "resnet19"}, "resnet19"),
        ("torch.nn:Linear", {}, "in_features"),
        ("monai:UNet", {"strides": (2,)}, "strides"),
    ],
)
def test_a_constructor_that_raises_is_reported_without_a_traceback(ref, args, words):
    with pytest.raises(ModelError) as error:
        resolve_model(ref, args).build()
    assert words in str(error.value)
    assert "Traceback" not in str(error.value)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"skipgrad\[models\]"):
        resolve_model("timm:resnet18", {})


def test_a_model_of_a_module():
    source = resolve_model("torch.nn:Linear", {"in_features": 4, "out_features": 2})
    args, _ = source.example((3, 4))
    assert tuple(args[0].shape) == (3, 4)
    assert args[0].is_floating_point()
    with pytest.raises(BadInput, match="--input"):
        source.example()
    with pytest.raises(BadInput, match="positive"):
        source.example((0, 4))


def test_a_model_that_starts_with_an_embedding_is_given_ids(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "import torch.nn as nn\ndef make():\n    return nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5))\n"
    )
    args, _ = resolve_model(f"{file}:make", {}).example((2, 7))
    assert args[0].dtype == torch.long


@pytest.fixture
def user_file(tmp_path):
    (tmp_path / "helper_of_net.py").write_text("WIDTH = 6\n")
    file = tmp_path / "my net.py"
    file.write_text(
        "from dataclasses import dataclass\nimport torch.nn as nn\nfrom helper_of_net import WIDTH\n"
        "@dataclass\nclass Options:\n    width: int = WIDTH\n"
        "def make(classes=3, options=Options()):\n    return nn.Linear(options.width, classes)\n"
        "def wrong():\n    return 'no module'\n"
        "def breaks(depth):\n    raise ValueError(f'depth {depth} is odd')\n"
        "net = nn.Linear(2, 2)\nnumber = 3\n"
        "class Inner:\n    make = staticmethod(make)\n"
    )
    return file


def test_a_model_of_a_file(user_file):
    path = list(sys.path)
    model = resolve_model(f"{user_file}:make", {"classes": 4}).build()
    assert (model.in_features, model.out_features) == (6, 4)
    assert sys.path == path
    assert resolve_model(f"{user_file}:Inner.make", {}).build().out_features == 3


@pytest.mark.parametrize(
    ("name", "args", "kind", "words"),
    [
        ("mak", {}, UnknownName, "make"),
        ("wrong", {}, ModelError, "a str, not a torch.nn.Module"),
        ("breaks", {"depth": 3}, ModelError, "depth 3 is odd"),
        ("breaks", {}, ModelError, "breaks(depth)"),
        ("net", {}, BadInput, "function or class"),
        ("number", {}, BadInput, "function or class"),
    ],
)
def test_mistakes_in_a_file_are_explained(user_file, name, args, kind, words):
    with pytest.raises(kind) as error:
        resolve_model(f"{user_file}:{name}", args).build()
    assert words in str(error.value)


def test_a_file_that_is_missing_or_cannot_be_imported(tmp_path):
    with pytest.raises(UnknownName, match="no such file"):
        resolve_model(f"{tmp_path}/nothing.py:make", {})
    file = tmp_path / "bad.py"
    for text, words in (
        ("x = 1\n1 / 0\n", "bad.py, line 2"),
        ("import nonsense_lib\n", "nonsense_lib"),
        ("def (", "Syntax"),
    ):
        file.write_text(text)
        with pytest.raises(ModelError) as error:
            resolve_model(f"{file}:make", {})
        assert words in str(error.value)
    file.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ModelError, match="SystemExit"):
        resolve_model(f"{file}:make", {})


def test_nothing_is_imported_with_the_package():
    import subprocess

    code = (
        "import sys, skipgrad.models; "
        "print([m for m in ('torchvision','timm','transformers','diffusers','sklearn','PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_main_output_finds_the_tensor_that_matters():
    a, b, c = torch.zeros(1), torch.ones(1), torch.zeros(2)
    assert main_output(a) is a
    assert main_output({"aux": a, "out": b}) is b
    assert main_output((a, b)) is a
    assert main_output([a, b]) is b
    assert main_output([a, c]) is a
    assert main_output({"loss": None, "x": (None, c)}) is c
    with pytest.raises(ModelError, match="NoneType"):
        main_output(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.models.googlenet import GoogLeNetOutputs
    assert main_output(GoogLeNetOutputs(c, a, b)) is c
