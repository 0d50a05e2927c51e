"""CIFAR, from tiny files in the format of its binary distributions."""

import numpy as np
import pytest
import torch
from common.data import load

BATCHES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def records(labels: list[tuple[int, ...]], seed: int) -> bytes:
    planes = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    return np.concatenate([np.array(labels, np.uint8), planes], axis=1).tobytes()


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number, name in enumerate(BATCHES):
        (folder / name).write_bytes(records([(number,), (9 - number,)], number))
    return folder


@pytest.fixture
def cifar100(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(records([(19, 99), (0, 5), (7, 0)], 0))
    (folder / "test.bin").write_bytes(records([(3, 50)], 1))
    return folder


def test_a_record_is_a_label_and_three_planes(cifar10):
    data = load("cifar10", root=cifar10)
    assert data.images.shape == (12, 3, 32, 32)
    content = (cifar10 / "data_batch_2.bin").read_bytes()
    for channel, row, column in ((0, 0, 0), (0, 0, 31), (1, 5, 7), (2, 31, 30)):
        place = 3073 + 1 + 1024 * channel + 32 * row + column
        assert data.images[3, channel, row, column] == content[place]


def test_batches_come_in_order_and_the_test_batch_last(cifar10):
    data = load("cifar10", root=cifar10)
    assert data.truth.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
    split = load("cifar10", root=cifar10, protocol="split")
    assert torch.equal(torch.cat([split.images, split.held_out.images]), data.images)
    assert split.truth.tolist() == data.truth[:10].tolist()
    assert split.held_out.truth.tolist() == [5, 4]


def test_the_folder_above_will_do_as_well(cifar10):
    assert torch.equal(
        load("cifar10", root=cifar10.parent).images, load("cifar10", root=cifar10).images
    )


def test_cifar100_is_read_by_its_coarse_classes(cifar100):
    data = load("cifar100-20", root=cifar100.parent)
    assert data.truth.tolist() == [19, 0, 7, 3]
    assert data.num_classes == 20
    content = (cifar100 / "train.bin").read_bytes()
    assert data.images[1, 2, 3, 4] == content[3074 + 2 + 2048 + 3 * 32 + 4]


def test_changing_images_in_memory_leaves_the_files_alone(cifar10):
    before = (cifar10 / "test_batch.bin").read_bytes()
    load("cifar10", root=cifar10, protocol="split").held_out.images.zero_()
    assert (cifar10 / "test_batch.bin").read_bytes() == before


@pytest.mark.parametrize("name", [BATCHES[0], BATCHES[4], BATCHES[5]])
def test_a_missing_batch_is_named(cifar10, name):
    (cifar10 / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: expected a file with labelled images"):
        load("cifar10", root=cifar10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found 0 bytes, which is 0 records and 0 bytes"),
        (records([(1,)], 0)[:-1], "found 3072 bytes, which is 0 records and 3072 bytes"),
        (records([(1,), (2,)], 0) + b"\0", "found 6147 bytes, which is 2 records and 1 bytes"),
        (records([(1,), (10,)], 0), "labels from 0 to 9, found 10 in record 1"),
    ],
)
def test_a_malformed_batch_is_named_with_what_was_expected(cifar10, content, message):
    path = cifar10 / "data_batch_3.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: expected .*{message}"):
        load("cifar10", root=cifar10)


@pytest.mark.parametrize(
    ("label", "message"),
    [((20, 0), "labels from 0 to 19, found 20"), ((0, 100), "labels from 0 to 99, found 100")],
)
def test_both_labels_of_cifar100_are_checked(cifar100, label, message):
    (cifar100 / "test.bin").write_bytes(records([label], 0))
    with pytest.raises(ValueError, match=f"test.bin: expected {message} in record 0"):
        load("cifar100-20", root=cifar100)
