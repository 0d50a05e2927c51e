"""Views of images: from uint8 to float, augmented on the images' device, each sample by itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class View(nn.Module):
    """One way to look at images: scaled to [0, 1], then augmented.

    Args:
        augmentations: Modules from float images to float images of the same shape, applied in
            turn; none gives the clean view.
    """

    def __init__(self, *augmentations: nn.Module) -> None:
        super().__init__()
        self.augmentations = nn.Sequential(*augmentations)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Float views ``(B, C, H, W)`` of uint8 images of the same shape."""
        views = images.to(torch.get_default_dtype()) / 255
        if len(images):  # Kornia does not take none
            views = self.augmentations(views)
        return views.contiguous(memory_format=torch.channels_last)


class Views(NamedTuple):
    """The views that the stages use.

    Attributes:
        clean: No augmentation: embeddings and predictions.
        contrastive: Two draws of it make a positive pair.
        weak: Pseudo-labels are read from it.
        strong: Heads learn on it.
        joint_strong: The whole network learns on it, in the joint training.
    """

    clean: View
    contrastive: View
    weak: View
    strong: View
    joint_strong: View
