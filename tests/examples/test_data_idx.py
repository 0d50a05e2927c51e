"""Fashion-MNIST, from tiny files in its format, and from the real ones where there are any."""

import gzip
import struct

import numpy as np
import pytest
import torch
from common.data import load
from common.data.idx import DEBIAN_ROOT, read_idx


def zipped(content):
    """Without the time of day, which would end up in the names of the tests."""
    return gzip.compress(content, mtime=0)


def idx(array: np.ndarray, magic: int | None = None) -> bytes:
    magic = 0x0800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3": rng.integers(0, 256, (5, 28, 28), np.uint8),
        "train-labels-idx1": np.array([9, 0, 3, 3, 1], np.uint8),
        "t10k-images-idx3": rng.integers(0, 256, (2, 28, 28), np.uint8),
        "t10k-labels-idx1": np.array([2, 8], np.uint8),
    }


@pytest.fixture
def root(tmp_path, arrays):
    for name, array in arrays.items():
        (tmp_path / f"{name}-ubyte.gz").write_bytes(zipped(idx(array)))
    return tmp_path


def test_whole_joins_the_parts(root, arrays):
    data = load("fashion-mnist", root=root)
    images = np.concatenate([arrays["train-images-idx3"], arrays["t10k-images-idx3"]])
    assert torch.equal(data.images, torch.from_numpy(images[:, None]))
    assert data.truth.tolist() == [9, 0, 3, 3, 1, 2, 8]
    assert (data.name, data.num_classes, data.held_out) == ("fashion-mnist", 10, None)
    assert (data.truth.dtype, data.class_names[9]) == (torch.int64, "ankle boot")


def test_files_need_not_be_compressed(root, arrays):
    data = load("fashion-mnist", root=root)
    for name, array in arrays.items():
        (root / f"{name}-ubyte.gz").unlink()
        (root / f"{name}-ubyte").write_bytes(idx(array))
    assert torch.equal(load("fashion-mnist", root=root).images, data.images)
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"^{path}: expected 3920 bytes of images"):
        load("fashion-mnist", root=root)


def test_split_keeps_the_test_part_apart(root, arrays):
    data = load("fashion-mnist", root=root, protocol="split", num_classes=4)
    assert torch.equal(data.images[:, 0], torch.from_numpy(arrays["train-images-idx3"]))
    assert data.truth.tolist() == [9, 0, 3, 3, 1]
    assert torch.equal(data.held_out.images[:, 0], torch.from_numpy(arrays["t10k-images-idx3"]))
    assert data.held_out.truth.tolist() == [2, 8]
    assert (data.num_classes, data.held_out.num_classes) == (4, 4)


IMAGES = np.zeros((5, 28, 28), np.uint8)
WHOLE = zipped(idx(IMAGES))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-images-idx3", b"", "expected an IDX header of 16 bytes, found 0 bytes"),
        ("train-images-idx3", b"no gzip at all", "expected a whole gzip file, found: Not a gzip"),
        ("train-images-idx3", WHOLE[:-20], "expected a whole gzip file, found: "),
        ("train-images-idx3", WHOLE[:30] + b"\0" * 9 + WHOLE[39:], "expected a whole gzip file"),
        ("train-images-idx3", zipped(b"short"), "expected an IDX header of 16 bytes, found"),
        (
            "train-images-idx3",
            zipped(idx(IMAGES, magic=2049)),
            r"expected the magic number 2051 \(images\), found 2049",
        ),
        (
            "train-images-idx3",
            zipped(idx(IMAGES)[:-1]),
            r"expected 3920 bytes of images \(5 x 28 x 28, says the header\), found 3919",
        ),
        ("train-images-idx3", zipped(idx(IMAGES) + b"\0"), "expected 3920 .* found 3921"),
        (
            "train-images-idx3",
            zipped(idx(np.zeros((5, 32, 28), np.uint8))),
            "expected images of 28 x 28 pixels, found 5 x 32 x 28",
        ),
        (
            "train-labels-idx1",
            zipped(idx(np.zeros(4, np.uint8))),
            "expected a label for each of the 5 images of train-images-idx3-ubyte.gz, found 4",
        ),
        (
            "t10k-labels-idx1",
            zipped(idx(np.array([2, 10], np.uint8))),
            "expected labels from 0 to 9, found 10 in record 1",
        ),
    ],
)
def test_a_malformed_file_is_named_with_what_was_expected(root, file, content, message):
    path = root / f"{file}-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        load("fashion-mnist", root=root)


def test_a_missing_file_is_named(root):
    path = root / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"^{path}: expected a file with labels in gzip"):
        load("fashion-mnist", root=root)


def test_any_number_of_axes_is_read_by_its_magic_number(tmp_path):
    path = tmp_path / "a.gz"
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    path.write_bytes(zipped(idx(array)))
    assert np.array_equal(read_idx(path, axes=4, holds="things"), array)


@pytest.mark.skipif(not DEBIAN_ROOT.is_dir(), reason=f"needs Fashion-MNIST in {DEBIAN_ROOT}")
def test_the_real_files_are_found_where_debian_puts_them():
    data = load("fashion-mnist", protocol="split")
    assert data.images.shape == (60_000, 1, 28, 28)
    assert data.held_out.images.shape == (10_000, 1, 28, 28)
    assert data.truth.bincount().tolist() == [6_000] * 10
    assert data.held_out.truth.bincount().tolist() == [1_000] * 10
    # The published mean and deviation of the train part.
    pixels = data.images.double() / 255
    assert pixels.mean().item() == pytest.approx(0.2860, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3530, abs=5e-5)
