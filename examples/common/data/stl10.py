"""STL-10, from its binary distribution.

An image is three planes of 96 x 96 bytes, each column by column; labels are bytes from 1 to 10 in
a file of their own. The 100,000 unlabelled images come from more classes than the ten.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.data.part import Part, expect_as_many, folder_of, join, records, truth_of

SIDE = 96
NAMES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)


def read_stl10(root: Path, parts: tuple[str, ...]) -> Part:
    """Reads ``parts``, of train and test.

    Args:
        root: The folder of the files, or the one that ``stl10_binary`` is in.
        parts: In the order in which they are joined.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file ends within an image, has a label outside 1 to 10, or does not match
            the other file of its part.
    """
    folder = folder_of(root, "stl10_binary")
    return join([_read_part(folder, part) for part in parts])._replace(class_names=NAMES)


def read_stl10_unlabelled(root: Path) -> Tensor:
    """The unlabelled images: mapped, not read, for there are 2.8 GB of them.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it ends within an image.
    """
    return _images(folder_of(root, "stl10_binary") / "unlabeled_X.bin")


def _read_part(folder: Path, part: str) -> Part:
    images_path, labels_path = folder / f"{part}_X.bin", folder / f"{part}_y.bin"
    images = _images(images_path)
    labels = records(labels_path, 1, "labels")[:, 0]
    expect_as_many(len(images), images_path, len(labels), labels_path)
    return Part(images, truth_of(np.asarray(labels), labels_path, 1, 10))


def _images(path: Path) -> Tensor:
    rows = records(path, 3 * SIDE * SIDE, f"images of {SIDE} x {SIDE} pixels")
    return torch.from_numpy(rows.reshape(-1, 3, SIDE, SIDE)).transpose(2, 3)
