"""RandAugment's operations, drawn for each sample by itself, and Cutout."""

from __future__ import annotations

import math
from collections.abc import Callable

import kornia.enhance as E
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

Operation = Callable[[Tensor, Tensor], Tensor]
"""From images ``(B, C, H, W)`` in [0, 1] and a strength ``(B,)`` in [0, 1] to images."""


class RandomOperations(nn.Module):
    """A few of 14 operations on each sample, drawn with replacement, each of random strength.

    The operations are those of PIL that RandAugment uses: identity, automatic contrast, histogram
    equalisation, rotation by up to 30 degrees, solarisation, colour, contrast, brightness and
    sharpness scaled by 0.05 to 0.95, shears and shifts along both axes, posterisation to 4 to 8
    bits. Kornia has them, but as layers that draw one operation for a whole batch.

    Args:
        count: Operations on each sample.
        shift: Largest shear, and largest shift as a share of the image.
    """

    def __init__(self, count: int, shift: float) -> None:
        super().__init__()
        self.count = count
        self.operations = _operations(shift)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [0, 1] of such images."""
        shape = (self.count, len(images))
        # Drawn and sorted on the host, so that nothing waits for the device to tell who drew what.
        drawn = torch.randint(1 + len(self.operations), shape)
        order = drawn.argsort(1).to(images.device, non_blocking=True)
        strengths = torch.rand(shape).to(images.device, non_blocking=True)
        images = images.clone()
        for turn in range(self.count):
            samples = order[turn].split(drawn[turn].bincount().tolist())
            # Samples that drew what comes after the last operation stay as they are.
            for operation, mine in zip(self.operations, samples, strict=False):
                if len(mine):
                    images[mine] = operation(images[mine], strengths[turn, mine]).clamp(0, 1)
        return images


class Cutout(nn.Module):
    """Paints one square over each image, of which parts may lie outside.

    Args:
        largest: The side is 1 to so many pixels, each as likely; so is any centre.
        value: What is painted.
    """

    def __init__(self, largest: int, value: float = 0.0) -> None:
        super().__init__()
        self.largest = largest
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        """Images of images ``(B, C, H, W)``."""
        count, _, height, width = images.shape
        drawn = [torch.randint(1, self.largest + 1, (count, 1))]
        drawn += [torch.randint(length, (count, 1)) for length in (height, width)]
        side, row, column = torch.stack(drawn).to(images.device, non_blocking=True)
        rows, columns = _covered(row, side, height), _covered(column, side, width)
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        return images.masked_fill(hole, self.value)


def _covered(centre: Tensor, side: Tensor, length: int) -> Tensor:
    """Whether each of ``length`` places is among ``side`` around the centre: ``(B, length)``."""
    from_start = torch.arange(length, device=centre.device) - (centre - side // 2)
    return (from_start >= 0) & (from_start < side)


def _operations(shift: float) -> list[Operation]:
    """All but the identity."""

    def shifts(strength: Tensor) -> Tensor:
        return shift * (2 * strength - 1)

    return [
        lambda images, _: _autocontrast(images),
        lambda images, _: E.equalize(images),
        lambda images, strength: _rotate(images, math.radians(30) * (2 * strength - 1)),
        lambda images, strength: E.solarize(images, strength),
        lambda images, strength: _scale_colour(images, _scale(strength)),
        lambda images, strength: E.adjust_contrast_with_mean_subtraction(images, _scale(strength)),
        lambda images, strength: E.adjust_brightness_accumulative(images, _scale(strength)),
        lambda images, strength: E.sharpness(images, _scale(strength)),
        lambda images, strength: _warp(images, {(0, 1): shifts(strength)}),
        lambda images, strength: _warp(images, {(1, 0): shifts(strength)}),
        lambda images, strength: _warp(images, {(0, 2): 2 * shifts(strength)}),
        lambda images, strength: _warp(images, {(1, 2): 2 * shifts(strength)}),
        lambda images, strength: E.posterize(images, (4 + 5 * strength).int().clamp(max=8)),
    ]


def _scale(strength: Tensor) -> Tensor:
    return 0.05 + 0.9 * strength


def _autocontrast(images: Tensor) -> Tensor:
    """Stretches each channel to [0, 1]; one of a single value stays as it is."""
    flat = images.amax((2, 3), keepdim=True) == images.amin((2, 3), keepdim=True)
    return torch.where(flat, images, E.normalize_min_max(images))


def _scale_colour(images: Tensor, factor: Tensor) -> Tensor:
    """Moves colours towards grey, which grey images are already."""
    if images.shape[1] == 1:
        return images
    return E.adjust_saturation_with_gray_subtraction(images, factor)


def _rotate(images: Tensor, angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    return _warp(images, {(0, 0): cosine, (0, 1): -sine, (1, 0): sine, (1, 1): cosine})


def _warp(images: Tensor, entries: dict[tuple[int, int], Tensor]) -> Tensor:
    """Resamples images, black outside, by an affine map from places in the result.

    Args:
        images: ``(B, C, H, W)``.
        entries: Those of the matrix ``(2, 3)`` that differ from the identity's, each ``(B,)``; in
            coordinates from -1 to 1, so that the images have to be square.
    """
    matrix = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    for (row, column), values in entries.items():
        matrix[:, row, column] = values
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)
