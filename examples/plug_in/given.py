"""What the loops here are given: digits, two views of them, a small network, a file of embeddings.

    python examples/plug_in/given.py features.npz

writes the file that the scripts for embeddings read.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images ``(N, 1, 8, 8)`` in [0, 1], and their classes, which only scores may see."""
    data = load_digits()
    images = torch.from_numpy(data.images / data.images.max()).float().unsqueeze(1)
    return images, torch.from_numpy(data.target).long()


def weak(images: Tensor) -> Tensor:
    """A shift by up to half a pixel and a turn by up to 5 degrees."""
    return _moved(images, turn=5.0, stretch=0.05, shift=0.5)


def strong(images: Tensor) -> Tensor:
    """Larger moves, another contrast, noise, and a grey square of a quarter of the side."""
    count = len(images)
    moved = _moved(images, turn=10.0, stretch=0.1, shift=0.5)
    moved = moved * (0.7 + 0.6 * torch.rand(count, 1, 1, 1)) + 0.05 * torch.randn_like(moved)
    corner, pixel = torch.randint(0, 7, (2, count, 1)), torch.arange(8)
    down, across = (pixel >= corner) & (pixel < corner + 2)
    return torch.where((down.unsqueeze(2) & across.unsqueeze(1)).unsqueeze(1), 0.5, moved)


class Network(nn.Module):
    """A backbone of two linear layers, and a head, from images to logits."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            *(nn.Flatten(), nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU()),
            *(nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU()),
        )
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)``."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Probabilities ``(N, K)``, in eval mode."""
    model.eval()
    probs: Tensor = model(images).softmax(1)
    model.train()
    return probs


def write_embeddings(path: Path, images: np.ndarray, truth: np.ndarray) -> None:
    """Writes 32 principal components as ``embeddings``, and ``labels``, which only scores see."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    embeddings = PCA(32, random_state=0).fit_transform(flat).astype(np.float32)
    np.savez(path, embeddings=embeddings, labels=truth)


def _moved(images: Tensor, turn: float, stretch: float, shift: float) -> Tensor:
    """Turned by up to so many degrees, scaled by up to a share, shifted by up to so many pixels."""
    angle, scale, x, y = 2 * torch.rand(4, len(images)) - 1
    angle, scale = angle * math.radians(turn), 1 + scale * stretch
    x, y = (2 * shift / images.shape[-1]) * torch.stack([x, y])
    cos, sin = angle.cos() * scale, angle.sin() * scale
    matrix = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


if __name__ == "__main__":
    write_embeddings(Path(sys.argv[1]), *(x.numpy() for x in digits()))
