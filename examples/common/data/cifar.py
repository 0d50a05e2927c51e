"""CIFAR-10 and CIFAR-100-20, from their binary distributions.

A record is one label byte (CIFAR-10) or two (CIFAR-100: of 20 coarse, then of 100 fine classes),
then the red, green and blue plane of 32 x 32 bytes each.
"""

from __future__ import annotations

from pathlib import Path

import torch

from common.data.part import Part, folder_of, join, records, truth_of

PIXELS = 3 * 32 * 32
FILES_10 = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
FILES_100 = {"train": ("train.bin",), "test": ("test.bin",)}
NAMES_10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def read_cifar10(root: Path, parts: tuple[str, ...]) -> Part:
    """Reads ``parts``, of train and test.

    Args:
        root: The folder of the files, or the one that ``cifar-10-batches-bin`` is in.
        parts: In the order in which they are joined.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file ends within a record or has a label above 9.
    """
    folder = folder_of(root, "cifar-10-batches-bin")
    paths = [folder / name for part in parts for name in FILES_10[part]]
    return join([_read(path, (9,)) for path in paths])._replace(class_names=NAMES_10)


def read_cifar100_20(root: Path, parts: tuple[str, ...]) -> Part:
    """Reads ``parts`` with the 20 coarse classes.

    Args:
        root: The folder of the files, or the one that ``cifar-100-binary`` is in.
        parts: In the order in which they are joined.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file ends within a record or has a label above 19 (coarse) or 99 (fine).
    """
    folder = folder_of(root, "cifar-100-binary")
    paths = [folder / name for part in parts for name in FILES_100[part]]
    return join([_read(path, (19, 99)) for path in paths])


def _read(path: Path, highest: tuple[int, ...]) -> Part:
    """A file whose records start with a label up to each of ``highest``; the first is kept."""
    rows = records(path, len(highest) + PIXELS, "labelled images of 32 x 32 pixels")
    truths = [truth_of(rows[:, place], path, 0, top) for place, top in enumerate(highest)]
    images = torch.from_numpy(rows[:, len(highest) :].reshape(-1, 3, 32, 32))
    return Part(images, truths[0])
