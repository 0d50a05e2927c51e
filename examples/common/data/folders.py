"""Folders of image files: with a folder for each class, or flat, which tells no class."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from common.data.decoding import Pixels, decode
from common.data.part import Part

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
TEST_FOLDERS = ("test", "val")


class Listing(NamedTuple):
    """Image files, not yet read.

    Attributes:
        files: All of them.
        labels: Of each file the place of its class in ``class_names``; None where nobody knows.
        class_names: In the order of the numbers.
    """

    files: list[Path]
    labels: list[int] | None
    class_names: tuple[str, ...]


def read_folder(
    root: Path,
    parts: tuple[str, ...],
    pixels: Pixels,
    *,
    classes: Sequence[str] | None = None,
    test_folders: Sequence[str] = TEST_FOLDERS,
) -> Part:
    """Reads a folder of images.

    Args:
        root: Holds images, or class folders with images anywhere in them; or a folder ``train``
            and a folder ``test`` or ``val`` that do.
        parts: Of train and test. Without folders for the parts, all is train.
        pixels: What the images become.
        classes: Names of the class folders to read; None for all there are.
        test_folders: How the folder of the test part may be called.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder has no images, or images beside class folders, or the parts differ
            in their classes, or a file holds no image.
    """
    folders = _folders_of(root, parts, classes is not None, test_folders)
    return read_listings([list_folder(folder, classes) for folder in folders], pixels)


def read_listings(listings: Sequence[Listing], pixels: Pixels) -> Part:
    """Decodes the files of parts that have the same classes.

    Raises:
        ValueError: If they differ in their classes, or a file holds no image.
    """
    files = [file for listing in listings for file in listing.files]
    first = listings[0]
    for listing in listings:
        expect_same_classes(first.class_names, listing.class_names, listing.files[0])
    if first.labels is None:
        return Part(decode(files, pixels), None, (), tuple(files))
    labels = [label for listing in listings for label in listing.labels]
    return Part(decode(files, pixels), torch.tensor(labels), first.class_names, tuple(files))


def expect_same_classes(expected: tuple[str, ...], found: tuple[str, ...], file: Path) -> None:
    """Checks that two parts of a data set have the same classes.

    Raises:
        ValueError: If not; names ``file`` and what only one of them has.
    """
    if expected != found:
        missing, extra = sorted({*expected} - {*found}), sorted({*found} - {*expected})
        raise ValueError(
            f"{file}: expected the same class folders in each part, found a part "
            f"without {missing or 'none'} and with {extra or 'none'}"
        )


def list_folder(folder: Path, classes: Sequence[str] | None = None) -> Listing:
    """Lists a folder; see `read_folder`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images, found none")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    loose = _images(entries)
    names = [path.name for path in entries if path.is_dir()] if classes is None else [*classes]
    if not names:
        if not loose:
            raise ValueError(f"{folder}: expected images or class folders, found neither")
        return _shuffled([loose], ())
    if loose and classes is None:
        raise ValueError(
            f"{folder}: expected images or class folders, found both: "
            f"the image {loose[0].name} beside the folder {names[0]}"
        )
    return _shuffled([images_below(folder / name) for name in names], tuple(names))


def images_below(folder: Path) -> list[Path]:
    """All images in a class folder, whatever folders they are in, in the order of their paths.

    What is in a hidden folder counts as hidden.

    Raises:
        FileNotFoundError: If there is no such folder, or a link in it leads nowhere.
        ValueError: If there is no image in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a class folder, found none")
    shown = (
        path
        for path in folder.rglob("*")
        if not any(part[0] == "." for part in path.relative_to(folder).parts)
    )
    images = _images(sorted(shown))
    if not images:
        raise ValueError(
            f"{folder}: expected images ({', '.join(sorted(SUFFIXES))}) of a class, found none"
        )
    return images


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file, not of a hidden one; a dead link counts."""
    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and not path.is_dir()


def _images(paths: Iterable[Path]) -> list[Path]:
    images = [path for path in paths if is_image(path)]
    for path in images:
        if not path.exists():
            raise FileNotFoundError(f"{path}: expected an image, found a link that leads nowhere")
    return images


def _folders_of(
    root: Path, parts: tuple[str, ...], others_allowed: bool, test_folders: Sequence[str]
) -> list[Path]:
    """The folders of the parts; the root itself if it is not divided into parts."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected a folder of images, found none")
    names = {path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."}
    # Beside other folders, one called "train" may well be a class, of vehicles.
    if "train" in names and (others_allowed or names <= {"train", *TEST_FOLDERS}):
        tests = [name for name in test_folders if name in names] or [*test_folders]
        if len(names.intersection(tests)) > 1:
            raise ValueError(f"{root}: expected one folder of {' and '.join(tests)}, found both")
        folders = {"train": root / "train", "test": root / tests[0]}
        return [folders[part] for part in parts]
    if "train" not in parts:
        raise FileNotFoundError(
            f"{root}: expected the folders train and {' or '.join(test_folders)}, found "
            f"{', '.join(sorted(names)) or 'none'}"
        )
    return [root]


def _shuffled(members: list[list[Path]], class_names: tuple[str, ...]) -> Listing:
    """The files of all classes, always in the same order, of which the class decides nothing.

    Class by class, an image's position would tell its class to whatever breaks ties by it. The
    order is that of the files' own names and, where two have the same, of what is in them: another
    class folder, or none, leaves it as it is.
    """
    labelled = [(file, label) for label, files in enumerate(members) for file in files]
    shared = Counter(file.name for file, _ in labelled)
    labelled.sort(
        key=lambda pair: (pair[0].name, _digest(pair[0]) if shared[pair[0].name] > 1 else "")
    )
    order = np.random.default_rng(0).permutation(len(labelled))
    files, labels = zip(*(labelled[i] for i in order), strict=True)
    return Listing([*files], [*labels] if class_names else None, class_names)


def _digest(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes()).hexdigest()
