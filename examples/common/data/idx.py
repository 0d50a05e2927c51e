"""Fashion-MNIST: four files in the IDX format of MNIST, compressed by gzip or not.

A file starts with a magic number (two zero bytes, the type, the number of axes), then has the
length of each axis as a big-endian 32-bit integer, then the values, the last axis fastest.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.data.part import Part, expect_as_many, expect_file, join, truth_of

DEBIAN_ROOT = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

UNSIGNED_BYTES = 0x08
FILE_NAMES = {"train": "train", "test": "t10k"}
NAMES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def read_fashion_mnist(root: Path, parts: tuple[str, ...]) -> Part:
    """Reads ``parts``, of train and test, from the folder of the four files.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is no whole IDX file of images of 28 x 28 or labels from 0 to 9.
    """
    return join([_read_part(root, FILE_NAMES[part]) for part in parts])._replace(class_names=NAMES)


def _read_part(root: Path, prefix: str) -> Part:
    images_path = _gzip_or_plain(root / f"{prefix}-images-idx3-ubyte.gz")
    labels_path = _gzip_or_plain(root / f"{prefix}-labels-idx1-ubyte.gz")
    images = read_idx(images_path, axes=3, holds="images")
    labels = read_idx(labels_path, axes=1, holds="labels")
    if images.shape[1:] != (28, 28) or len(images) == 0:
        found = " x ".join(map(str, images.shape))
        raise ValueError(f"{images_path}: expected images of 28 x 28 pixels, found {found}")
    expect_as_many(len(images), images_path, len(labels), labels_path)
    return Part(torch.from_numpy(images).unsqueeze(1), truth_of(labels, labels_path, 0, 9))


def _gzip_or_plain(path: Path) -> Path:
    """The path, or where only the file that it was made of is there, that."""
    plain = path.with_suffix("")
    return plain if plain.is_file() and not path.is_file() else path


def read_idx(path: Path, *, axes: int, holds: str) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes.

    Args:
        path: Of the file, which is a gzip file if its name says so.
        axes: How many its array has.
        holds: What is in it, for the errors.

    Raises:
        FileNotFoundError: If no file is there.
        ValueError: If it is not such a file, or not a whole one.
    """
    expect_file(path, f"{holds} in gzip IDX format, or unpacked")
    content = _unzip(path) if path.suffix == ".gz" else path.read_bytes()
    header = struct.calcsize(f">{axes + 1}I")
    if len(content) < header:
        raise ValueError(
            f"{path}: expected an IDX header of {header} bytes, found {len(content)} bytes"
        )
    magic, *shape = struct.unpack_from(f">{axes + 1}I", content)
    expected = UNSIGNED_BYTES << 8 | axes
    if magic != expected:
        raise ValueError(f"{path}: expected the magic number {expected} ({holds}), found {magic}")
    if len(content) - header != prod(shape):
        raise ValueError(
            f"{path}: expected {prod(shape)} bytes of {holds} "
            f"({' x '.join(map(str, shape))}, says the header), found {len(content) - header}"
        )
    # A copy, for an array over `bytes` cannot be written to, of which torch warns.
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _unzip(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a whole gzip file, found: {error}") from None
