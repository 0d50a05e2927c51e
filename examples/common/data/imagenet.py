"""Subsets of ImageNet: ImageNet-10, ImageNet-Dogs-15 and Tiny-ImageNet."""

from __future__ import annotations

from pathlib import Path

from common.data.decoding import Pixels
from common.data.folders import Listing, images_below, list_folder, read_listings
from common.data.part import Part, expect_file, folder_of

# Which classes these are is told by datasets/ImageNet-10.txt and datasets/ImageNet-dogs.txt of
# https://github.com/Yunfan-Li/Contrastive-Clustering (commit 647d891).
IMAGENET_10 = (
    *("n02056570", "n02085936", "n02128757", "n02690373", "n02692877"),
    *("n03095699", "n04254680", "n04285008", "n04467665", "n07747607"),
)
"""King penguin, Maltese dog, snow leopard, airliner, airship, container ship, soccer ball, sports
car, trailer truck, orange."""

IMAGENET_DOGS_15 = (
    *("n02085936", "n02086646", "n02088238", "n02091467", "n02097130"),
    *("n02099601", "n02101388", "n02101556", "n02102177", "n02105056"),
    *("n02105412", "n02105855", "n02107142", "n02110958", "n02112137"),
)
"""Maltese dog, Blenheim spaniel, basset, Norwegian elkhound, giant schnauzer, golden retriever,
Brittany spaniel, clumber, Welsh springer spaniel, groenendael, kelpie, Shetland sheepdog, Doberman,
pug, chow."""


def read_tiny_imagenet(root: Path, parts: tuple[str, ...], pixels: Pixels) -> Part:
    """Reads ``parts`` of Tiny-ImageNet; its validation images are the test part.

    Args:
        root: The folder of ``train`` and ``val``, or the one that ``tiny-imagenet-200`` is in.
        parts: Of train and test; the test images of the archive itself have no labels.
        pixels: What the images become.

    Raises:
        FileNotFoundError: If a folder or a file is missing.
        ValueError: If the annotations do not match the images, or a file holds no image.
    """
    folder = folder_of(root, "tiny-imagenet-200")
    train = list_folder(folder / "train")
    if train.labels is None:
        raise ValueError(f"{folder / 'train'}: expected class folders, found images")
    listings = {"train": lambda: train, "test": lambda: _validation(folder, train.class_names)}
    return read_listings([listings[part]() for part in parts], pixels)


def _validation(folder: Path, class_names: tuple[str, ...]) -> Listing:
    path = expect_file(folder / "val" / "val_annotations.txt", "a class for each validation image")
    numbers = {name: number for number, name in enumerate(class_names)}
    classes: dict[str, int] = {}
    for line, text in enumerate(path.read_text().splitlines(), start=1):
        name, wnid, *_ = [*text.split("\t"), "", ""]
        if wnid not in numbers:
            raise ValueError(
                f"{path}, line {line}: expected the name of an image, a tab and one of the "
                f"{len(numbers)} classes of the train part, found {text!r}"
            )
        if name in classes:
            raise ValueError(f"{path}, line {line}: expected every image once, found {name} again")
        classes[name] = numbers[wnid]
    images = images_below(folder / "val" / "images")
    differing = {*classes} ^ {image.name for image in images}
    if differing:
        raise ValueError(
            f"{path}: expected a line for each image in {folder / 'val' / 'images'} and an image "
            f"for each line, found one alone for {min(differing)}"
        )
    return Listing(images, [classes[image.name] for image in images], class_names)
