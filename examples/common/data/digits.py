"""The digits that come with scikit-learn."""

from __future__ import annotations

import sklearn.datasets
import torch

from common.data.image_data import ImageData
from common.data.part import Part


def load_digits() -> ImageData:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, which come with the package."""
    images, truth, *_ = read_digits()
    return ImageData("digits", images, 10, truth)


def read_digits() -> Part:
    """See `load_digits`."""
    digits = sklearn.datasets.load_digits()
    brightest = digits.images.max()
    images = torch.from_numpy(digits.images / brightest * 255).round().to(torch.uint8)
    return Part(images.unsqueeze(1), torch.from_numpy(digits.target).long())
