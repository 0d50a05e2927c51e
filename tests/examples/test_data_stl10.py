"""STL-10, from tiny files in the format of its binary distribution."""

import numpy as np
import pytest
import torch
from common.data import load

IMAGE = 3 * 96 * 96


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("test", 2), ("unlabeled", 4)):
        (tmp_path / f"{part}_X.bin").write_bytes(rng.integers(0, 256, count * IMAGE, np.uint8))
    (tmp_path / "train_y.bin").write_bytes(bytes([10, 1, 4]))
    (tmp_path / "test_y.bin").write_bytes(bytes([2, 10]))
    return tmp_path


def test_planes_are_stored_column_by_column(root):
    data = load("stl10", root=root, protocol="split")
    content = (root / "train_X.bin").read_bytes()
    for channel, row, column in ((0, 0, 1), (0, 1, 0), (1, 5, 90), (2, 95, 94)):
        place = 2 * IMAGE + 96 * 96 * channel + 96 * column + row
        assert data.images[2, channel, row, column] == content[place]


def test_labels_start_at_one(root):
    data = load("stl10", root=root)
    assert data.truth.tolist() == [9, 0, 3, 1, 9]
    assert data.images.shape == (5, 3, 96, 96)
    assert data.images.is_contiguous()


def test_the_unlabelled_part_is_there_when_asked_for(root):
    assert load("stl10", root=root).unlabelled is None
    images = load("stl10", root=root, unlabelled=True).unlabelled
    content = np.frombuffer((root / "unlabeled_X.bin").read_bytes(), np.uint8)
    expected = content.reshape(4, 3, 96, 96).transpose(0, 1, 3, 2)[[3, 1]]
    assert torch.equal(images[torch.tensor([3, 1])], torch.from_numpy(expected))


def test_a_missing_unlabelled_part_hurts_only_when_asked_for(root):
    (root / "unlabeled_X.bin").unlink()
    load("stl10", root=root)
    with pytest.raises(FileNotFoundError, match=r"unlabeled_X\.bin: expected a file with images"):
        load("stl10", root=root, unlabelled=True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train_X.bin", bytes(IMAGE - 1), "expected images .* 27648 bytes, found 27647 bytes"),
        ("unlabeled_X.bin", b"", "expected images .* 27648 bytes, found 0 bytes"),
        ("train_y.bin", bytes([1, 0, 3]), "expected labels from 1 to 10, found 0 in record 1"),
        ("test_y.bin", bytes([2, 11]), "expected labels from 1 to 10, found 11 in record 1"),
        (
            "test_y.bin",
            bytes([2]),
            "expected a label for each of the 2 images of test_X.bin, found 1",
        ),
        ("test_y.bin", b"", "expected labels in records of 1 bytes, found 0 bytes"),
    ],
)
def test_a_malformed_file_is_named_with_what_was_expected(root, file, content, message):
    (root / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file}: {message}"):
        load("stl10", root=root, unlabelled=True)


@pytest.mark.parametrize("file", ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"])
def test_a_missing_file_is_named(root, file):
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file}: expected a file with"):
        load("stl10", root=root)
