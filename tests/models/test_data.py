"""Data by reference, read from small files in the true format."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch

from skipgrad.core import BadInput, DataError, MissingExtra, UnknownName
from skipgrad.models import fit, resolve_data


def test_digits():
    data = resolve_data("digits")
    x, y = data.gather(range(data.size))
    assert x.shape == (1797, 1, 8, 8)
    assert x.dtype == torch.float32
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std()) - 1) < 1e-5
    assert sorted(set(y.tolist())) == list(range(10))


def test_shapes_are_the_same_every_time_and_have_fine_detail():
    data, again = resolve_data("shapes"), resolve_data("shapes")
    x, y = data.gather(range(64))
    assert x.shape == (64, 1, 32, 32)
    assert y.shape == (64, 32, 32)
    assert torch.equal(x, again.gather(range(64))[0])
    assert set(y.unique().tolist()) == {0, 1}
    share = y.float().mean()
    assert 0.05 < share < 0.4
    assert float(x[:, 0][y == 1].mean()) > float(x[:, 0][y == 0].mean()) + 1


def test_text_is_python_and_targets_are_the_next_bytes():
    data = resolve_data("text")
    x, y = data.gather([0, 1000, data.size - 1])
    assert x.shape == y.shape == (3, 64)
    assert torch.equal(x[:, 1:], y[:, :-1])
    whole = bytes(data.gather(range(0, 200_000, 64))[0].flatten().tolist())
    assert whole.count(b"def ") > 100
    assert data.size <= 1 << 20


@pytest.fixture
def cifar(tmp_path):
    generator = np.random.default_rng(0)
    for number in (1, 2):
        records = generator.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        records.tofile(tmp_path / f"data_batch_{number}.bin")
    return tmp_path


def test_cifar10_reads_the_binary_version(cifar):
    data = resolve_data(f"cifar10:{cifar}")
    assert (data.size, data.shape, data.classes) == (40, (3, 32, 32), 10)
    x, y = data.gather(range(40))
    assert y.tolist() == [i % 10 for i in range(40)]
    assert x.mean((0, 2, 3)).abs().max() < 1e-5
    record = np.fromfile(cifar / "data_batch_2.bin", dtype=np.uint8)[:3073]
    red = torch.from_numpy(record[1 : 1 + 1024].astype(np.float32)).view(32, 32)  # red plane, row by row
    standard = (red - red.mean()) / red.std()
    torch.testing.assert_close((x[20, 0] - x[20, 0].mean()) / x[20, 0].std(), standard)


def test_cifar10_finds_the_folder_inside_the_archive_folder(cifar, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    (outer / "cifar-10-batches-bin").symlink_to(cifar)
    assert resolve_data(f"cifar10:{outer}").size == 40


class _Bomb:
    def __reduce__(self):
        return (sys.exit, (13,))


def test_cifar10_never_unpickles(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(DataError, match="asks for"):
        resolve_data(f"cifar10:{tmp_path}")


def test_cifar10_mistakes(tmp_path, cifar):
    for ref, words in ((f"cifar10:{tmp_path}/no", "no such folder"),):
        with pytest.raises(DataError, match=words):
            resolve_data(ref)
    with pytest.raises(BadInput, match="path/to/folder"):
        resolve_data("cifar10:")
    (cifar / "data_batch_3.bin").write_bytes(b"12345")
    with pytest.raises(DataError, match="5 bytes"):
        resolve_data(f"cifar10:{cifar}")
    (cifar / "data_batch_3.bin").write_bytes(bytes([77]) + bytes(3072))
    with pytest.raises(DataError, match="label 77"):
        resolve_data(f"cifar10:{cifar}")


@pytest.fixture
def images(tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, size in (("cat", (20, 20)), ("dog", (20, 20)), ("empty", None)):
        (tmp_path / name).mkdir()
        for number in range(6 if size else 0):
            pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    Image.fromarray(np.zeros((20, 20), dtype=np.uint8)).save(tmp_path / "dog" / "grey.jpg")
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    return tmp_path


def test_imagefolder(images):
    data = resolve_data(f"imagefolder:{images}")
    assert (data.size, data.shape, data.classes) == (13, (3, 20, 20), 2)
    x, y = data.gather([0, 7])
    assert x.shape == (2, 3, 20, 20)
    assert y.tolist() == [0, 1]
    work = fit("torchvision:resnet18", {}, f"imagefolder:{images}", batch_size=4)
    assert work.example.args[0].shape == (4, 3, 20, 20)
    assert any("num_classes=2" in sentence for sentence in work.fit)
    work = fit("timm:vit_tiny_patch16_224", {}, f"imagefolder:{images}", batch_size=4)
    assert work.example.args[0].shape == (4, 3, 32, 32)


def test_imagefolder_of_different_sizes(images):
    from PIL import Image

    Image.fromarray(np.zeros((50, 30, 3), dtype=np.uint8)).save(images / "cat" / "tall.png")
    data = resolve_data(f"imagefolder:{images}")
    assert data.shape == (3, 20, 20)
    assert any("different sizes" in note for note in data.notes)
    assert data.gather(range(data.size))[0].shape == (14, 3, 20, 20)


def test_imagefolder_mistakes(images, tmp_path_factory):
    with pytest.raises(DataError, match="no such folder"):
        resolve_data("imagefolder:/no/such/folder")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="folder of its own"):
        resolve_data(f"imagefolder:{empty}")
    (images / "cat" / "broken.png").write_bytes(b"not a picture")
    data = resolve_data(f"imagefolder:{images}")
    with pytest.raises(DataError, match=r"broken\.png"):
        data.gather(range(data.size))


OWN = """
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

def pairs(n=24, classes=3):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 8, 8, generator=g), torch.arange(n) % classes

def dataset(): return TensorDataset(*pairs())
def loader(): return DataLoader(TensorDataset(*pairs()), batch_size=5, shuffle=True)
def sequence(): return [(x, int(y)) for x, y in zip(*pairs())]
def arrays(): return [(x.numpy(), int(y)) for x, y in zip(*pairs())]
def empty(): return []
def broken(): raise OSError("disk on fire")
def nothing(): return 7
def wrong_sample(): return [1, 2, 3]
def ragged(): return [(torch.zeros(1, 8 + i, 8 + i), 0) for i in range(8)]

def with_nan():
    x, y = pairs()
    x[5, 0, 2, :3] = float("nan")
    return TensorDataset(x, y)

def negative():
    x, y = pairs()
    return TensorDataset(x, y - 1)

def hidden_label():
    class Lies(Dataset):
        classes = ["a", "b"]
        def __len__(self): return 24
        def __getitem__(self, i): return pairs()[0][i], int(pairs()[1][i])
    return Lies()

def tokens():
    ids = torch.arange(20 * 9).view(20, 9) % 11
    return TensorDataset(ids[:, :-1], ids[:, 1:])

def regression():
    x, y = pairs()
    return TensorDataset(x.flatten(1), y.float()[:, None])

def augmented():
    class Noisy(Dataset):
        def __len__(self): return 12
        def __getitem__(self, i): return torch.randn(1, 8, 8), i % 3
    return Noisy()

class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*pairs())

def stream(): return Stream()
def stream_loader(): return DataLoader(Stream(), batch_size=4)

def dicts():
    return [{"x": torch.randn(4), "target": torch.zeros(2)} for _ in range(8)]
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


@pytest.mark.parametrize("name", ["dataset", "loader", "sequence", "arrays", "augmented"])
def test_own_classification_data(own, name):
    work = fit("skipgrad:plain8", {}, f"{own}:{name}", batch_size=6)
    assert work.task == "classification"
    assert any("num_classes=3" in sentence for sentence in work.fit)
    one, two = work.batches(4), work.batches(4)
    for _ in range(5):
        a, b = next(one), next(two)
        assert torch.equal(a.args[0], b.args[0])
        assert torch.equal(a.target, b.target)


def test_own_text(own):
    work = fit("skipgrad:preln1", {"d_model": 8, "heads": 2}, f"{own}:tokens", batch_size=6)
    assert work.task == "language model"
    assert work.build().head.out_features == 11
    assert work.example.args[0].shape == (6, 8)


def test_own_regression_goes_to_the_model_as_it_is(own):
    work = fit("torch.nn:Linear", {"in_features": 64, "out_features": 1}, f"{own}:regression", batch_size=6)
    assert work.task == "custom"
    batch = work.example
    output = work.build()(*batch.args)
    assert torch.equal(work.loss(output, batch), torch.nn.functional.mse_loss(output, batch.target))


@pytest.mark.parametrize("name", ["stream", "stream_loader"])
def test_own_streams(own, name, tmp_path):
    net = tmp_path / "net.py"
    net.write_text("import torch.nn as nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n")
    work = fit(f"{net}:make", {}, f"{own}:{name}", batch_size=4)
    batches = work.batches(0)
    taken = [next(batches) for _ in range(14)]  # more than one pass
    assert all(batch.size == 4 for batch in taken)
    assert torch.equal(taken[0].args[0], taken[6].args[0])
    assert torch.equal(next(work.batches(0, start=2)).args[0], taken[2].args[0])


def test_dicts_become_keyword_inputs(own, tmp_path):
    net = tmp_path / "net.py"
    net.write_text(
        "import torch.nn as nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.l = nn.Linear(4, 2)\n    def forward(self, *, x): return {'logits': self.l(x)}\n"
    )
    work = fit(f"{net}:Net", {}, f"{own}:dicts", batch_size=4)
    batch = work.example
    assert set(batch.kwargs) == {"x"}
    assert work.loss(work.build()(**batch.kwargs), batch).ndim == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "no samples"),
        ("broken", "disk on fire"),
        ("nothing", "a int"),
        ("wrong_sample", "(input, target)"),
        ("ragged", "one shape"),
        ("with_nan", "sample 5"),
        ("with_nan", "3 of 64 values"),
        ("negative", "the label -1"),
        ("hidden_label", "the label 2"),
    ],
)
def test_bad_data_are_explained(own, name, words):
    def one_pass():
        work = fit("skipgrad:plain8", {}, f"{own}:{name}", batch_size=8)
        batches = work.batches(0)
        return [next(batches) for _ in range(3)]

    with pytest.raises(DataError) as error:
        one_pass()
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("digist", "digits"),
        ("digits:3", "digits alone"),
        ("cifar", "cifar10:DIR"),
        ("no_package:data", "digits"),
        ("", "known"),
    ],
)
def test_a_wrong_reference_is_answered_with_the_nearest(ref, words):
    with pytest.raises((UnknownName, BadInput)) as error:
        resolve_data(ref)
    assert words in str(error.value)


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match=r"skipgrad\[data\]"):
        resolve_data("digits")
