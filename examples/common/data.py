"""Data sets as plain tensors.

The ground truth is a field of its own, so that a training function, which is only ever handed
`images`, cannot see it.
"""

from __future__ import annotations

from typing import NamedTuple

import sklearn.datasets
import torch
from torch import Tensor


class ImageData(NamedTuple):
    """A data set.

    Attributes:
        name: What tables and run folders call it.
        images: uint8 ``(N, C, H, W)``.
        num_classes: K, the number of clusters to find.
        truth: int64 ``(N,)`` for the metrics alone, or None where nobody knows it.
    """

    name: str
    images: Tensor
    num_classes: int
    truth: Tensor | None


def load_digits() -> ImageData:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, which come with the package."""
    digits = sklearn.datasets.load_digits()
    brightest = digits.images.max()
    images = torch.from_numpy(digits.images / brightest * 255).round().to(torch.uint8)
    return ImageData("digits", images.unsqueeze(1), 10, torch.from_numpy(digits.target).long())
