"""Labels and probabilities of new images, by the network of a finished run.

    python examples/predict.py runs/spice-3 photos/ --out photos.csv

Reads the run's ``checkpoint.json`` and ``checkpoint.safetensors``, nothing else. The images are a
folder of image files, scaled to the size of those that the run was trained on, or a ``.npy`` file
of uint8 ``(N, C, H, W)``, or ``(N, H, W)`` if they are grey, of that very size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from common.augmentation import View, views_for
from common.data import load
from common.network import Architecture, load_part
from common.run_folder import RunFolder
from common.training import in_eval_mode
from lightning.fabric import Fabric
from torch import Tensor, nn


@dataclass(frozen=True)
class Settings:
    """What to predict, and where to."""

    run: tyro.conf.Positional[Path]
    """Folder that a run has left."""
    images: tyro.conf.Positional[Path]
    """Folder of images, or a .npy file."""
    out: Path = Path("predictions.csv")
    """CSV file: one row an image, its label and the probability of every cluster."""
    overwrite: bool = False
    """Replace that file if there is one."""
    accelerator: str = "auto"
    """Lightning Fabric's: auto (a GPU if there is one), cpu, gpu, mps."""
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
        ValueError: If its files do not fit each other.
    """
    path = run / "checkpoint.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the checkpoint of a run, got no such file")
    said: dict[str, Any] = json.loads(path.read_text())
    architecture = Architecture(**said["architecture"])
    network = architecture.build().eval()
    load_part(network, run, "network")
    channels, height, width = said["image_shape"]
    views = views_for(said["settings"]["data"]["name"], size=width, channels=channels)
    return Predictor(network, views.clean, (channels, height, width), architecture.num_classes)


def read_images(path: Path, predictor: Predictor) -> tuple[Tensor, list[str]]:
    """Images as uint8 ``(N, C, H, W)``, and what to call each of them.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If it is no image folder, or an array of another shape or dtype.
    """
    channels, *size = predictor.image_shape
    if path.is_dir():
        options = {"num_classes": predictor.num_classes, "size": size[1], "channels": channels}
        data = load("folder", root=path, **options)
        return data.images, [str(file) for file in data.files]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a folder of images or a .npy file, got nothing")
    images = np.load(path, allow_pickle=False)
    if channels == 1 and images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.shape[1:] != predictor.image_shape:
        raise ValueError(
            f"{path}: expected uint8 of shape (N, {channels}, {size[0]}, {size[1]}), "
            f"got {images.dtype} of shape {images.shape}"
        )
    return torch.from_numpy(images), [str(index) for index in range(len(images))]


def main(settings: Settings) -> None:
    """Predicts and writes the table."""
    if settings.out.exists() and not settings.overwrite:
        raise FileExistsError(f"{settings.out}: expected no such file; pass --overwrite")
    predictor = load_predictor(settings.run)
    images, names = read_images(settings.images, predictor)
    fabric = Fabric(accelerator=settings.accelerator, devices=1)
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
    except (FileExistsError, FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
