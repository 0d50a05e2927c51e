"""From image files to one uint8 tensor: in memory, or in a file that is mapped into it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

MODES = {1: "L", 3: "RGB"}
EIGHT_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


class Pixels(NamedTuple):
    """What image files become.

    Attributes:
        size: Height and width: the shorter side is scaled to it, of the longer one the middle
            stays.
        channels: 1 for grey, 3 for colour.
        cache: Folder for the decoded images, which then are read from there whenever they are
            needed; None keeps them in memory.
    """

    size: int
    channels: Literal[1, 3] = 3
    cache: Path | None = None


def decode(files: Sequence[Path], pixels: Pixels) -> Tensor:
    """Decodes image files, as many at a time as there are cores.

    With a cache they are decoded once; a file that changes its time or length is decoded anew.

    Returns:
        uint8 ``(len(files), channels, size, size)``.

    Raises:
        ValueError: If a file holds no whole image of 8 bits a channel, its name is not UTF-8, in
            which it will be written down, or the cache is damaged.
    """
    for path in files:
        if not _is_utf8(path):
            raise ValueError(f"{os.fsencode(path)!r}: expected a file name in UTF-8")
    shape = (len(files), pixels.channels, pixels.size, pixels.size)
    if pixels.cache is None:
        images = np.empty(shape, np.uint8)
        _decode_into(images, files, pixels)
        return torch.from_numpy(images)
    path = pixels.cache / f"{_fingerprint(files, pixels)}.npy"
    if not path.exists():
        _write(path, shape, files, pixels)
    return torch.from_numpy(_map(path, shape))


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_into(images: NDArray[np.uint8], files: Sequence[Path], pixels: Pixels) -> None:
    def decode_one(place: int) -> None:
        images[place] = _decode(files[place], pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        places = pool.map(decode_one, range(len(files)))
        try:
            # No bar where nobody watches.
            for _ in tqdm(places, "decoding", len(files), leave=False, unit="image", disable=None):
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise


def _decode(path: Path, pixels: Pixels) -> NDArray[np.uint8]:
    """One image ``(channels, size, size)``."""
    side = (pixels.size, pixels.size)
    try:
        with Image.open(path) as image:
            if image.mode not in EIGHT_BITS:
                raise ValueError(f"the pixel format {image.mode}")
            # A JPEG much larger than needed is decoded at half, a quarter or an eighth.
            image.draft(MODES[pixels.channels], side)
            upright = ImageOps.exif_transpose(image).convert(MODES[pixels.channels])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: expected a whole image of 8 bits a channel, found: {error}"
        ) from error
    fitted = np.asarray(ImageOps.fit(upright, side, Image.Resampling.BILINEAR))
    return fitted.reshape(*side, pixels.channels).transpose(2, 0, 1)


def _fingerprint(files: Sequence[Path], pixels: Pixels) -> str:
    """Changes with whatever changes the decoded images."""
    digest = hashlib.sha256(f"{pixels.size} {pixels.channels}".encode())
    for path in files:
        state = path.stat()
        digest.update(b"\0" + os.fsencode(path.absolute()))
        digest.update(f"\0{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


def _write(path: Path, shape: tuple[int, ...], files: Sequence[Path], pixels: Pixels) -> None:
    """Writes the decoded images whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own, for two runs may decode the same files at once.
    handle, name = tempfile.mkstemp(suffix=".part", dir=path.parent)
    aside = Path(name)
    try:
        images = np.lib.format.open_memmap(aside, "w+", np.uint8, shape)
        _decode_into(images, files, pixels)
        images.flush()
        os.fsync(handle)
        aside.replace(path)
    finally:
        os.close(handle)
        aside.unlink(missing_ok=True)


def _map(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        # Copy on write: torch warns of an array that cannot be written to.
        images = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: expected decoded images, found: {error}; delete the file"
        ) from error
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 {shape}, found {images.dtype} {images.shape}; delete the file"
        )
    return images
