"""Attention maps: where an image looks like the prototype of its cluster (SPICE's Fig. 5)."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from common.augmentation import View
from common.plots import cluster_name, picture

IMAGES_A_CLUSTER = 3  # as many as the paper shows


@torch.no_grad()
def attention(network: nn.Module, views: Tensor) -> Tensor:
    """Cosine between the mean feature of some images and each place of each one's feature map.

    Args:
        network: An encoder with a backbone, and whatever follows it, in eval mode.
        views: Of a cluster's most typical images, ``(B, C, H, W)``, on the network's device.

    Returns:
        Float ``(B, H, W)`` in [0, 1], 1 where an image is most like the prototype.
    """
    features = network[0].backbone.feature_map(views).float()
    prototype = features.mean((0, 2, 3)).view(1, -1, 1, 1)
    similar = cosine_similarity(features, prototype, dim=1)
    similar = interpolate(
        similar.unsqueeze(1), views.shape[-2:], mode="bilinear", align_corners=False
    ).squeeze(1)
    low, high = similar.amin((1, 2), keepdim=True), similar.amax((1, 2), keepdim=True)
    return (similar - low) / (high - low).clamp(min=1e-6)


def attention_maps(network: nn.Module, images: Tensor, members: Tensor, view: View) -> Figure:
    """Each cluster's most typical images, each beside where it looks like the prototype.

    Args:
        network: See `attention`.
        images: uint8 ``(N, C, H, W)``.
        members: int64 ``(K, columns)`` positions of images, -1 for none; the first few are shown.
        view: What the network looks at.
    """
    device = next(network.parameters()).device
    shown = min(IMAGES_A_CLUSTER, members.shape[1])
    blocks = -(-len(members) // 20)  # rows of clusters beside each other where there are many
    rows = -(-len(members) // blocks)
    width = 2 * shown * blocks
    size = (0.62 * width + 0.9 * blocks + 0.4, 0.62 * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, width, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for cluster, row in enumerate(members):
        block, line = divmod(cluster, rows)
        beside, name = axes[line, 2 * shown * block], cluster_name(cluster, row)
        beside.text(-0.1, 0.5, name, ha="right", va="center", transform=beside.transAxes)
        row = row[row >= 0]
        if not len(row):
            continue
        typical = images[row.to(images.device)]
        maps = attention(network, view(typical.to(device))).cpu()
        for column in range(min(shown, len(row))):
            first = 2 * (shown * block + column)
            shape = {"cmap": "gray_r", "vmin": 0, "vmax": 255}
            axes[line, first].imshow(picture(typical[column]), **shape)
            axes[line, first + 1].imshow(maps[column].numpy(), cmap="inferno", vmin=0, vmax=1)
    figure.suptitle("Where typical images look\nlike their cluster's prototype")
    return figure
