"""What every format is read into, and the checks that they share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Part(NamedTuple):
    """One part of a data set, such as its test images; the fields are those of `ImageData`."""

    images: Tensor
    truth: Tensor | None
    class_names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def join(parts: list[Part]) -> Part:
    """Parts that are in memory, one after the other."""
    images, truths = zip(*((part.images, part.truth) for part in parts), strict=True)
    return Part(torch.cat(images), torch.cat(truths))


def folder_of(root: Path, usual: str) -> Path:
    """``root``, or the folder in it that the published archive unpacks to."""
    return root / usual if (root / usual).is_dir() else root


def expect_file(path: Path, holds: str) -> Path:
    """Returns ``path``.

    Raises:
        FileNotFoundError: If no file is there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file with {holds}, found none")
    return path


def records(path: Path, size: int, holds: str) -> NDArray[np.uint8]:
    """A file of records of ``size`` bytes as a read-only array ``(N, size)``, mapped, not read.

    Raises:
        FileNotFoundError: If no file is there.
        ValueError: If it is empty or ends within a record.
    """
    length = expect_file(path, holds).stat().st_size
    if length == 0 or length % size:
        raise ValueError(
            f"{path}: expected {holds} in records of {size} bytes, found {length} bytes, "
            f"which is {length // size} records and {length % size} bytes"
        )
    return np.memmap(path, np.uint8, mode="c").reshape(-1, size)


def truth_of(labels: NDArray[np.uint8], path: Path, lowest: int, highest: int) -> Tensor:
    """Labels from ``lowest`` to ``highest`` as int64 numbers from 0.

    Raises:
        ValueError: If one lies outside.
    """
    wrong = np.flatnonzero((labels < lowest) | (labels > highest))
    if len(wrong):
        raise ValueError(
            f"{path}: expected labels from {lowest} to {highest}, "
            f"found {labels[wrong[0]]} in record {wrong[0]}"
        )
    return torch.from_numpy(labels.astype(np.int64) - lowest)


def expect_as_many(images: int, images_path: Path, labels: int, labels_path: Path) -> None:
    """Checks that every image has a label.

    Raises:
        ValueError: If there are more of one than of the other.
    """
    if images != labels:
        raise ValueError(
            f"{labels_path}: expected a label for each of the {images} images of "
            f"{images_path.name}, found {labels}"
        )
