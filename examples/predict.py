"""Labels and probabilities of new images, by the network of a finished run.

    python examples/predict.py runs/spice-3 photos/ --out photos.csv

Reads the run's ``checkpoint.json`` and ``checkpoint.safetensors``, nothing else. The images are an
image file or a folder of them, scaled to the size of those that the run was trained on, or a
``.npy`` file of uint8 ``(N, C, H, W)``, or ``(N, H, W)`` if they are grey, of that very size. The
rows of a folder are in the order of the paths.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import tyro
from common.augmentation import View, views_for
from common.data import load
from common.data.decoding import Pixels, decode
from common.data.folders import SUFFIXES
from common.network import Architecture, load_part
from common.ranks import fabric_on
from common.run_folder import RunFolder
from common.training import in_eval_mode
from torch import Tensor, nn


@dataclass(frozen=True)
class Settings:
    """What to predict, and where to."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder that a run has left."""
    images: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="IMAGES")]]
    """Folder of images, an image file, or a .npy file."""
    out: Path = Path("predictions.csv")
    """CSV file: one row an image, its label and the probability of every cluster."""
    overwrite: bool = False
    """Replace that file if there is one."""
    accelerator: str = "auto"
    """Lightning Fabric's: auto (a GPU if there is one), cpu or gpu."""
    batch_size: int = 1024
    """Images at a time."""


class Predictor(NamedTuple):
    """A finished run's network.

    Attributes:
        network: From views to logits, in eval mode.
        view: From uint8 images to what the network sees.
        image_shape: ``(C, H, W)`` of the images that it was trained on.
        num_classes: K.
    """

    network: nn.Module
    view: View
    image_shape: tuple[int, int, int]
    num_classes: int


def load_predictor(run: Path) -> Predictor:
    """Rebuilds the network that a run ended with.

    Args:
        run: Its folder.

    Raises:
        FileNotFoundError: If the folder holds no finished run.
        ValueError: If its files are damaged, or do not fit each other.
    """
    path = run / "checkpoint.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the checkpoint of a run, got no such file")
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        architecture = Architecture(**said["architecture"])
        network = architecture.build().eval()
        channels, height, width = said["image_shape"]
        views = views_for(said["settings"]["data"]["name"], size=width, channels=channels)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the checkpoint of a run, got a damaged file "
            f"({type(error).__name__}: {error})"
        ) from None
    load_part(network, run, "network")
    return Predictor(network, views.clean, (channels, height, width), architecture.num_classes)


def read_images(path: Path, predictor: Predictor) -> tuple[Tensor, list[str]]:
    """Images as uint8 ``(N, C, H, W)``, and what to call each of them.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If it is neither images nor an array, or one of another shape or dtype.
    """
    channels, height, width = predictor.image_shape
    expected = "a folder of images, an image file or a .npy file of numbers"
    if path.is_dir():
        options = {"num_classes": predictor.num_classes, "size": width, "channels": channels}
        data = load("folder", root=path, **options)
        # Class folders are read shuffled.
        order = sorted(range(len(data.files)), key=data.files.__getitem__)
        return data.images[order], [str(data.files[index]) for index in order]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected {expected}, got nothing")
    if path.suffix.lower() in SUFFIXES:
        return decode([path], Pixels(width, channels)), [str(path)]
    try:
        with path.open("rb") as file:
            images = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path}: expected {expected}, found: {error}") from None
    if channels == 1 and images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.shape[1:] != predictor.image_shape:
        raise ValueError(
            f"{path}: expected uint8 of shape (N, {channels}, {height}, {width}), "
            f"got {images.dtype} of shape {images.shape}"
        )
    return torch.from_numpy(images), [str(index) for index in range(len(images))]


def main(settings: Settings) -> None:
    """Predicts and writes the table."""
    if settings.batch_size < 1:
        raise ValueError(f"--batch-size: expected at least 1, got {settings.batch_size}")
    if settings.out.is_dir():
        raise IsADirectoryError(f"{settings.out}: expected a file for --out, got a folder")
    if settings.out.exists() and not settings.overwrite:
        raise FileExistsError(f"{settings.out}: expected no such file; pass --overwrite")
    predictor = load_predictor(settings.run)
    images, names = read_images(settings.images, predictor)
    fabric = fabric_on(settings.accelerator, devices=1)
    network = fabric.to_device(predictor.network)
    logits = in_eval_mode(fabric, network, images, predictor.view, batch_size=settings.batch_size)
    probs = logits.softmax(-1).cpu()
    header = ["image", "label", *(f"probability_{k}" for k in range(predictor.num_classes))]
    rows = [
        [name, int(row.argmax()), *(f"{p:.6f}" for p in row.tolist())]
        for name, row in zip(names, probs, strict=True)
    ]
    folder = RunFolder(settings.out.parent, existing="keep")
    folder.write_table(settings.out.name, header, rows)
    print(f"{len(rows)} images: {settings.out}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings, description=__doc__))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
