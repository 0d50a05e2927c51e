"""Views of images: from uint8 to float, augmented on the images' device, each sample by itself.

Kornia draws from torch's global generator: after `torch.manual_seed` the same calls give the same
views.
"""

from __future__ import annotations

from typing import NamedTuple

import kornia.augmentation as K
import torch
from torch import Tensor, nn


class View(nn.Module):
    """One way to look at images: scaled to [0, 1], then augmented.

    Args:
        augmentations: Kornia modules, applied in turn; none gives the clean view.
    """

    def __init__(self, *augmentations: nn.Module) -> None:
        super().__init__()
        self.augmentations = nn.Sequential(*augmentations)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Float views ``(B, C, H, W)`` of uint8 images of the same shape."""
        views = self.augmentations(images.float() / 255)
        return views.contiguous(memory_format=torch.channels_last)


class Views(NamedTuple):
    """The views that the stages use.

    Attributes:
        clean: No augmentation: embeddings and predictions.
        contrastive: Two draws of it make a positive pair.
        weak: Pseudo-labels are read from it.
        strong: Networks learn on it.
    """

    clean: View
    contrastive: View
    weak: View
    strong: View


def digit_views() -> Views:
    """Views of 8 x 8 digits: small affine and elastic changes that keep a digit that digit."""
    return Views(
        clean=View(),
        contrastive=View(_affine(10, 0.1, 0.15), _elastic(0.3)),
        weak=View(_affine(5, 0.06, 0.05)),
        strong=View(_affine(15, 0.12, 0.2), _elastic(0.5)),
    )


def _affine(degrees: float, shift: float, scale: float, p: float = 1.0) -> K.RandomAffine:
    """Rotation and shear by up to ``degrees``, shift and scale by up to a share of the size."""
    return K.RandomAffine(degrees, (shift, shift), (1 - scale, 1 + scale), degrees, p=p)


def _elastic(strength: float) -> K.RandomElasticTransform:
    return K.RandomElasticTransform((5, 5), (1.6, 1.6), (strength, strength), p=0.7)
