"""Data in their true formats, written small."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch

from skipgrad.core import BadInput, DataError
from skipgrad.models import resolve_data
from skipgrad.models.data.parts import parted, readable

DICE = np.random.default_rng(0)


def idx(path, array):
    raw = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist_in_idx_files_with_its_test_part(tmp_path, end):
    x, y = DICE.integers(0, 256, (20, 28, 28)), DICE.permutation(np.arange(20) % 10)
    idx(tmp_path / f"train-images-idx3-ubyte{end}", x)
    idx(tmp_path / f"train-labels-idx1-ubyte{end}", y)
    idx(tmp_path / f"t10k-images-idx3-ubyte{end}", x[:6])
    idx(tmp_path / f"t10k-labels-idx1-ubyte{end}", y[:6])
    data = resolve_data(f"mnist:{tmp_path}")
    assert (data.task, data.size, data.shape, data.classes) == ("classification", 20, (1, 28, 28), 10)
    images, labels = data.gather(range(20))
    assert labels.tolist() == y.tolist()
    raw = torch.from_numpy(x).float()
    assert torch.allclose(images[:, 0] * raw.std() + raw.mean(), raw, atol=1e-3)
    assert data.test is not None
    assert data.test.size == 6
    assert torch.equal(data.test.gather([3])[0], data.gather([3])[0])
    train, held = parted(data, 0.5)
    assert (train.size, held.size) == (20, 6), "the makers' own test part is what is held out"


def test_idx_files_that_are_cut_short_or_others_are_named(tmp_path):
    idx(tmp_path / "train-images-idx3-ubyte", np.zeros((4, 5, 5)))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        resolve_data(f"mnist:{tmp_path}")
    idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3))
    with pytest.raises(DataError, match="3 labels for 4 images"):
        resolve_data(f"mnist:{tmp_path}")
    path = tmp_path / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(DataError, match="cut short") as caught:
        resolve_data(f"mnist:{tmp_path}")
    assert "train-images" in caught.value.where
    path.write_bytes(b"GIF89a" + whole)
    with pytest.raises(DataError, match="begins with"):
        resolve_data(f"mnist:{tmp_path}")
    path.rename(path.with_suffix(".gz"))
    with pytest.raises(DataError, match="unpacked"):
        resolve_data(f"mnist:{tmp_path}")
    with pytest.raises(DataError, match="no such folder"):
        resolve_data(f"mnist:{tmp_path / 'nowhere'}")
    with pytest.raises(BadInput, match="no folder"):
        resolve_data("mnist:")


def cifar(folder, many=6, classes=10):
    """The same images in the binary and in the Python version."""
    pixels, labels = DICE.integers(0, 256, (many, 3072), dtype=np.uint8), np.arange(many) % classes
    coarse = labels // 5
    if classes == 10:
        binary, python = folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"
        names = [("data_batch_1.bin", "data_batch_1"), ("test_batch.bin", "test_batch")]
        heads, keys = labels[:, None], {b"labels": labels.tolist()}
    else:
        binary, python = folder / "cifar-100-binary", folder / "cifar-100-python"
        names = [("train.bin", "train"), ("test.bin", "test")]
        heads = np.stack([coarse, labels], 1)
        keys = {b"fine_labels": labels.tolist(), b"coarse_labels": coarse.tolist()}
    for place in (binary, python):
        place.mkdir(parents=True)
    for one, two in names:
        (binary / one).write_bytes(np.concatenate([heads.astype(np.uint8), pixels], 1).tobytes())
        (python / two).write_bytes(pickle.dumps({b"data": pixels, **keys}, protocol=2))
    return binary, python, labels


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_binary_and_pickled_give_the_same(tmp_path, classes):
    binary, python, labels = cifar(tmp_path, 12, classes)
    one, two = (resolve_data(f"cifar{classes}:{folder}") for folder in (binary, python))
    for data in (one, two, resolve_data(f"cifar{classes}:{tmp_path}")):
        assert (data.size, data.shape, data.classes, data.test.size) == (12, (3, 32, 32), classes, 12)
        assert data.gather(range(12))[1].tolist() == labels.tolist()
        assert torch.equal(data.gather([5])[0], one.gather([5])[0])


def test_a_pickle_that_asks_for_anything_else_is_not_run(tmp_path):
    _, python, _ = cifar(tmp_path)
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    (python / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}))
    with pytest.raises(DataError, match="asks for"):
        resolve_data(f"cifar10:{python}")
    assert not ran.exists()


def test_cifar_files_of_another_length_or_another_cifar_are_named(tmp_path):
    binary, python, _ = cifar(tmp_path, 12, 100)
    (binary / "train.bin").write_bytes(b"\0" * 3073)
    with pytest.raises(DataError, match="no multiple of 3,074"):
        resolve_data(f"cifar100:{binary}")
    (python / "train").write_bytes(b"\x80\x02")
    with pytest.raises(DataError, match="damaged"):
        resolve_data(f"cifar100:{python}")
    with pytest.raises(DataError, match="data_batch"):
        resolve_data(f"cifar10:{tmp_path}")


def test_npz_files_are_images_masks_or_whatever_they_are(tmp_path):
    path = tmp_path / "a.npz"
    images = DICE.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    np.savez(path, x=images, y=np.arange(9) % 4, x_test=images[:2], y_test=np.array([0, 1]))
    data = resolve_data(f"npz:{path}")
    assert (data.task, data.shape, data.classes, data.test.classes) == ("classification", (3, 8, 8), 4, 4)
    assert torch.allclose(data.gather([2])[0][0], torch.from_numpy(images[2]).permute(2, 0, 1) / 255)
    np.savez(path, x=np.zeros((5, 8, 8), np.float32), y=np.zeros((5, 8, 8), np.int64))
    assert (resolve_data(f"npz:{path}").task, resolve_data(f"npz:{path}").shape) == ("segmentation", (1, 8, 8))
    np.savez(path, x=np.zeros((5, 7)), y=np.zeros((5, 2)))
    data = resolve_data(f"npz:{path}")
    assert (data.task, data.gather([0])[0].dtype) == ("custom", torch.float32)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda p: np.savez(p, a=np.zeros(3)), "call them x and y"),
        (lambda p: np.savez(p, x=np.zeros((3, 2)), y=np.zeros(2)), "3 inputs and 2 targets"),
        (lambda p: np.savez(p, x=np.array([object()]), y=np.zeros(1)), "arrays of objects"),
        (lambda p: p.write_bytes(b"PK\x03\x04nothing"), "numpy.savez"),
        (lambda p: p.write_bytes(b""), "numpy.savez"),
        (lambda p: p.mkdir(), "a folder"),
    ],
)
def test_npz_files_that_hold_something_else_are_named(tmp_path, write, told):
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(DataError, match=told) as caught:
        resolve_data(f"npz:{path}")
    assert str(path) in caught.value.where


def test_a_text_of_ones_own(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(range(100)))
    data = resolve_data(f"text:{path}")
    x, y = data.gather([3])
    assert x[0].tolist() == list(range(3, 67))
    assert y[0].tolist() == list(range(4, 68))
    path.write_bytes(b"short")
    with pytest.raises(DataError, match="5 bytes"):
        resolve_data(f"text:{path}")
    with pytest.raises(DataError, match="no such file"):
        resolve_data(f"text:{tmp_path / 'b.txt'}")


def test_the_flow_is_how_the_first_image_has_moved():
    data = resolve_data("flow")
    x, flow = data.gather(range(64))
    assert x.shape == (64, 2, 32, 32)
    assert flow.shape == (64, 2, 32, 32)
    assert float(flow.abs().max()) <= 2
    assert float(flow.std()) > 0.3
    # One step of matching by gradients explains most of the change: Ix·u + Iy·v + It ≈ 0, inside and where it is small.
    first, second = x[:, 0], x[:, 1]
    ix = (first.roll(-1, -1) - first.roll(1, -1)) / 2
    iy = (first.roll(-1, -2) - first.roll(1, -2)) / 2
    left = second - first + ix * flow[:, 0] + iy * flow[:, 1]
    small = (flow.norm(dim=1) < 0.5)[:, 3:-3, 3:-3]
    change = (second - first)[:, 3:-3, 3:-3][small]
    assert float(left[:, 3:-3, 3:-3][small].square().mean()) < 0.5 * float(change.square().mean())


def test_denoising_of_any_images():
    data = resolve_data("denoise:digits")
    torch.manual_seed(0)
    x, noise = data.gather(range(200))
    assert x.shape == (200, 2, 8, 8)
    assert noise.shape == (200, 1, 8, 8)
    late = x[:, 1, 0, 0] > 0.95
    assert torch.allclose(x[late][:, 0], noise[late][:, 0], atol=0.1), "of the last levels nothing but noise is left"
    for wrong in ("denoise:text", "denoise:nothing", "denoise:denoise"):
        with pytest.raises(DataError):
            resolve_data(wrong)


def test_what_is_held_out_is_the_same_for_every_seed_and_shares_nothing():
    data = resolve_data("digits")
    train, held = parted(data, 0.2)
    assert train.size + held.size == data.size
    assert held.size == round(0.2 * data.size)
    one = {t.numpy().tobytes() for t in train.gather(range(train.size))[0]}
    two = {t.numpy().tobytes() for t in held.gather(range(held.size))[0]}
    whole = {t.numpy().tobytes() for t in data.gather(range(data.size))[0]}
    assert one | two == whole
    assert len(one & two) <= data.size - len(whole)
    text, end = parted(resolve_data("text"), 0.01)
    last, first = text.gather([text.size - 1])[1][0], end.gather([0])[0][0]
    assert resolve_data("text").size - text.size - end.size == 64, "windows overlap, so a window lies in between"
    assert len(last) == len(first) == 64
    with pytest.raises(DataError, match="held out"):
        parted(data, 0.99, 100)


def images(root, classes, many=3, size=12):
    pil = pytest.importorskip("PIL.Image")
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(many):
            pil.fromarray(np.full((size, size, 3), 40 * k + i, np.uint8)).save(root / name / f"{i}.png")


def test_a_folder_with_train_and_val_keeps_the_second_apart(tmp_path):
    images(tmp_path / "train", ["a", "b", "c"])
    images(tmp_path / "val", ["b", "c"], many=2)
    data = resolve_data(f"imagefolder:{tmp_path}")
    assert (data.size, data.classes, data.test.size) == (9, 3, 4)
    assert data.test.gather(range(4))[1].tolist() == [1, 1, 2, 2]
    assert data.resize(8).test.gather([0])[0].shape == (1, 3, 8, 8)
    images(tmp_path / "val", ["z"])
    with pytest.raises(DataError, match="'z', which train has not"):
        resolve_data(f"imagefolder:{tmp_path}")


def test_files_that_cannot_be_read_are_named_or_left_out_and_counted(tmp_path):
    images(tmp_path, ["a", "b"], many=40)
    for name in ("a/7.png", "b/3.png"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    data = resolve_data(f"imagefolder:{tmp_path}")
    with pytest.raises(DataError, match="--skip-bad") as caught:
        data.gather(range(data.size))
    assert caught.value.where.endswith(".png")
    left, told = readable(data)
    assert left.size == 78
    assert len(told) == 2
    assert sorted(text.partition(":")[0].rpartition("/")[2] for text in told) == ["3.png", "7.png"]
    left.gather(range(78))
    assert "2 of 80 left out" in left.notes


NOISY = """
import random
import numpy as np
import torch

class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        drawn = torch.rand(1).item() + np.random.rand() + random.random()
        return torch.full((1, 8, 8), i + drawn / 3), i % 10

def data():
    return Noisy()
"""


@pytest.mark.parametrize("part", [(0, 1), (1, 2)])
def test_batches_are_the_same_by_workers_from_anywhere_on_and_whatever_the_generators_hold(tmp_path, part):
    import random
    from itertools import islice

    from skipgrad.models import fit

    (tmp_path / "noisy.py").write_text(NOISY)
    work = fit("skipgrad:resnet8", {}, f"{tmp_path / 'noisy.py'}:data", batch_size=5)
    took = []
    for start, workers in ((0, 0), (0, 2), (3, 0), (3, 2)):
        np.random.seed(start + workers)
        random.seed(start)
        before = np.random.get_state()[1].copy()
        made = work.batches(1, start, group=2, part=part, workers=workers, every_generator=True)
        took.append([b.args[0] for b in islice(made, 12 - start)])
        assert (np.random.get_state()[1] == before).all()
    for other, skipped in zip(took[1:], (0, 3, 3), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(took[0][skipped:], other, strict=True))
    assert not torch.equal(took[0][0], took[0][4]), "the passes differ"


def test_processes_take_the_parts_of_the_whole_batch():
    from itertools import islice

    from skipgrad.models import fit

    whole = fit("skipgrad:resnet8", {}, "digits", batch_size=8)
    halves = fit("skipgrad:resnet8", {}, "digits", batch_size=4)
    one = [b.args[0] for b in islice(whole.batches(2), 230)]  # beyond the first pass
    two = [[b.args[0] for b in islice(halves.batches(2, group=2, part=(k, 2)), 230)] for k in range(2)]
    for k, batch in enumerate(one):
        assert torch.equal(batch, torch.cat([two[0][k], two[1][k]]))


def test_augmentation_is_of_the_sample_and_the_pass_and_flips_masks_too():
    from skipgrad.models.augment import augmented

    x = torch.arange(4 * 3 * 8 * 8).float().view(4, 3, 8, 8)
    y = torch.arange(4)
    for name in ("flip", "crop-flip", "resized-crop-flip"):
        one, two = (augmented(name, x, y, [1, 2, 3, 4])[0] for _ in range(2))
        assert torch.equal(one, two)
        assert one.shape == x.shape
        backwards, _ = augmented(name, x.flip(0), y.flip(0), [4, 3, 2, 1])
        assert torch.equal(backwards.flip(0), one), "whichever samples are beside it"
        assert any(not torch.equal(augmented(name, x, y, [s] * 4)[0], one) for s in range(5, 9))
    flipped, masks = augmented("flip", x, x[:, 0].long(), [0, 1, 2, 3])
    assert torch.equal(flipped[:, 0].long(), masks)
    assert not torch.equal(masks, x[:, 0].long())
    with pytest.raises(DataError, match="'flip'"):
        augmented("crop-flip", x, x[:, 0].long(), [0, 1, 2, 3])


def drawn(count, side=12):
    from PIL import Image

    return [Image.fromarray(DICE.integers(0, 256, (side, side, 3)).astype(np.uint8)) for _ in range(count)]


def test_a_saved_hugging_face_data_set_of_images(tmp_path):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    parts = {name: datasets.Dataset.from_dict({"image": drawn(n), "label": [0, 1] * (n // 2)}, features=features)
             for name, n in (("train", 8), ("validation", 4))}  # fmt: skip
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    data = resolve_data(f"hf:{tmp_path / 'both'}")
    assert (data.task, data.size, data.shape, data.classes) == ("classification", 8, (3, 12, 12), 2)
    assert (data.test.size, "cat, dog" in data.about) == (4, True)
    x, y = data.gather([1, 6])
    assert y.tolist() == [1, 0]
    raw = np.asarray(parts["train"][1]["image"], dtype=np.float64)
    for k in range(3):
        assert np.corrcoef(x[0, k].flatten(), raw[:, :, k].flatten())[0, 1] == pytest.approx(1, abs=1e-6)
    # One part alone is a data set, too.
    assert resolve_data(f"hf:{tmp_path / 'both' / 'train'}").test is None


def test_a_row_that_is_no_image_is_named_or_left_out(tmp_path):
    import datasets

    good = datasets.Image().encode_example(drawn(1)[0])
    rows = {"image": [good, {"bytes": b"not an image", "path": None}, good], "label": [0, 1, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "a"))
    data = resolve_data(f"hf:{tmp_path / 'a'}")
    with pytest.raises(DataError) as caught:
        data.gather([0, 1])
    assert caught.value.where == "row 1"
    kept, bad = readable(data)
    assert (kept.size, len(bad)) == (2, 1)


def test_a_saved_hugging_face_data_set_of_text(tmp_path):
    import datasets

    rows = {"text": ["a line of text " * 8, "b" * 40], "stars": [3, 4]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "a"))
    data = resolve_data(f"hf:{tmp_path / 'a'}")
    assert (data.task, data.classes, data.notes) == ("language model", 256, ("the column stars is not used",))
    assert bytes(data.gather([0])[0][0].tolist()) == "\n".join(rows["text"]).encode()[:64]


def test_what_is_no_saved_data_set_is_said(tmp_path):
    import datasets

    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="save_to_disk"):
        resolve_data(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(DataError, match="no such folder"):
        resolve_data(f"hf:{tmp_path / 'nowhere'}")
    datasets.Dataset.from_dict({"n": [1.0, 2.0]}).save_to_disk(str(tmp_path / "n"))
    with pytest.raises(DataError, match=r"n \(Value\)"):
        resolve_data(f"hf:{tmp_path / 'n'}")
    only = datasets.DatasetDict({"test": datasets.Dataset.from_dict({"text": ["x" * 100]})})
    only.save_to_disk(str(tmp_path / "only"))
    with pytest.raises(DataError, match="none of them train"):
        resolve_data(f"hf:{tmp_path / 'only'}")
