"""One entry point to all data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from common.data.cifar import read_cifar10, read_cifar100_20
from common.data.decoding import Pixels
from common.data.digits import read_digits
from common.data.folders import expect_same_classes, read_folder
from common.data.idx import DEBIAN_ROOT, read_fashion_mnist
from common.data.image_data import ImageData
from common.data.imagenet import IMAGENET_10, IMAGENET_DOGS_15, read_tiny_imagenet
from common.data.part import Part
from common.data.stl10 import read_stl10, read_stl10_unlabelled

Protocol = Literal["whole", "split"]


@dataclass(frozen=True)
class Source:
    """How a data set is read.

    Attributes:
        read: From a root and names of parts to these parts, joined; with a size, from `Pixels` too.
        classes: How many it has; None where the folders tell.
        whole: The parts that the whole protocol trains and evaluates on.
        root: Where it is unless told otherwise; None for nowhere in particular.
        size: To which image files are scaled unless told otherwise; None where there are none.
        divided: Whether it has a test part.
        unlabelled: Reads more images without labels, if there are any.
    """

    read: Callable[..., Part]
    classes: int | None
    whole: tuple[str, ...] = ("train", "test")
    root: Path | None = None
    size: int | None = None
    divided: bool = True
    unlabelled: Callable[[Path], Tensor] | None = None


def _imagenet(classes: tuple[str, ...]) -> Source:
    # The papers cluster the 1,300 training images of each class.
    read = partial(read_folder, classes=classes, test_folders=("val",))
    return Source(read, len(classes), whole=("train",), size=224)


SOURCES = {
    # Its root is not looked at, for it comes with a package.
    "digits": Source(lambda root, parts: read_digits(), 10, root=Path(), divided=False),
    "fashion-mnist": Source(read_fashion_mnist, 10, root=DEBIAN_ROOT),
    "cifar10": Source(read_cifar10, 10),
    "cifar100-20": Source(read_cifar100_20, 20),
    "stl10": Source(read_stl10, 10, unlabelled=read_stl10_unlabelled),
    "imagenet-10": _imagenet(IMAGENET_10),
    "imagenet-dogs-15": _imagenet(IMAGENET_DOGS_15),
    "tiny-imagenet": Source(read_tiny_imagenet, None, size=64),
    "folder": Source(read_folder, None, size=32),
}
"""The data sets by name; a new one is a line here and a function that reads its files."""


def load(
    name: str,
    *,
    root: Path | str | None = None,
    protocol: Protocol = "whole",
    num_classes: int | None = None,
    unlabelled: bool = False,
    size: int | None = None,
    channels: Literal[1, 3] | None = None,
    cache: Path | str | None = None,
) -> ImageData:
    """Loads a data set.

    Args:
        name: One of `SOURCES`.
        root: Folder of the files; None for the usual place, which digits and fashion-mnist have.
        protocol: ``"whole"`` gives all images to training and evaluation alike, ``"split"`` the
            train part to training and the test part as `ImageData.held_out`. The whole of
            imagenet-10 and imagenet-dogs-15 is their train part, as in the papers.
        num_classes: K, the number of clusters to find; None for the number of classes, which a
            flat folder does not tell.
        unlabelled: Hand over the unlabelled part too, which stl10 alone has.
        size: Height and width to which image files are scaled; None for 224 (imagenet-10 and
            imagenet-dogs-15), 64 (tiny-imagenet) or 32 (folder).
        channels: Of image files: 3, or 1 for grey; None for 3.
        cache: Folder in which decoded image files are kept for images that do not fit in memory;
            None to decode them anew, into memory.

    Raises:
        FileNotFoundError: If a file or a folder is missing.
        ValueError: If a file is malformed, or an argument does not suit the data set.

    Example:
        >>> data = load("digits")
        >>> data.images.shape, data.num_classes
        (torch.Size([1797, 1, 8, 8]), 10)
    """
    source = _source(name, protocol, unlabelled)
    root = source.root if root is None else Path(root)
    if root is None:
        raise ValueError(f"root: expected the folder of the files of {name}, got None")
    options = _pixels(name, source, size, channels, cache)
    # The test part first: should it be missing, that shows before a long decoding.
    test = source.read(root, ("test",), *options) if protocol == "split" else None
    train = source.read(root, source.whole if test is None else ("train",), *options)
    if test is not None and test.files:
        expect_same_classes(train.class_names, test.class_names, test.files[0])
    classes = _num_classes(name, num_classes, source.classes or len(train.class_names))
    data = _image_data(name, train, classes)
    return data._replace(
        held_out=None if test is None else _image_data(f"{name}, test part", test, classes),
        unlabelled=source.unlabelled(root) if unlabelled else None,
    )


def _image_data(name: str, part: Part, num_classes: int) -> ImageData:
    return ImageData(
        name,
        part.images,
        num_classes,
        part.truth,
        class_names=part.class_names,
        files=part.files,
    )


def _source(name: str, protocol: str, unlabelled: bool) -> Source:
    if name not in SOURCES:
        raise ValueError(f"name: expected one of {', '.join(SOURCES)}, got {name!r}")
    if protocol not in ("whole", "split"):
        raise ValueError(f"protocol: expected 'whole' or 'split', got {protocol!r}")
    if protocol == "split" and not SOURCES[name].divided:
        raise ValueError(f"protocol: expected 'whole' for {name}, which has no test part")
    if unlabelled and SOURCES[name].unlabelled is None:
        raise ValueError(f"unlabelled: expected False for {name}, which has no unlabelled part")
    return SOURCES[name]


def _pixels(
    name: str, source: Source, size: int | None, channels: int | None, cache: Path | str | None
) -> tuple[Pixels, ...]:
    """The last argument of what reads image files; none for what reads arrays."""
    if source.size is None:
        for option, value in (("size", size), ("channels", channels), ("cache", cache)):
            if value is not None:
                raise ValueError(
                    f"{option}: expected None for {name}, whose images are read as they are, "
                    f"got {value}"
                )
        return ()
    size = source.size if size is None else size
    channels = 3 if channels is None else channels
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    if channels not in (1, 3):
        raise ValueError(f"channels: expected 1 or 3, got {channels}")
    return (Pixels(size, channels, None if cache is None else Path(cache)),)


def _num_classes(name: str, given: int | None, known: int) -> int:
    if given is None and known == 0:
        raise ValueError(f"num_classes: expected a number for {name}, which tells no classes")
    classes = known if given is None else given
    if classes < 2:
        raise ValueError(f"num_classes: expected at least 2 for {name}, got {classes}")
    return classes
