"""Plain networks for small grey images, which train from scratch on a CPU."""

from __future__ import annotations

from torch import nn

from common.backbones.backbone import Backbone, convolution
from common.ranks import GlobalBatchNorm2d


class SmallConvNet(Backbone):
    """Four convolutions for images of about 8 x 8 pixels.

    The features are pooled to 2 x 2 places, not to one: on so few pixels the place of a stroke is
    what tells digits apart.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the first layer; the features have 16 times as many dimensions.
    """

    def __init__(self, in_channels: int = 1, width: int = 16) -> None:
        layers = nn.Sequential(
            *_layer(in_channels, width),
            *_layer(width, 2 * width),
            *_layer(2 * width, 2 * width, stride=2),
            *_layer(2 * width, 4 * width),
        )
        super().__init__(layers, 4 * width, places=2)


class MediumConvNet(Backbone):
    """Six convolutions for images of about 28 x 28 pixels.

    The first one halves the image at once: at full size normalisation and activation would take
    longer than all convolutions together.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the first layer; the features have 8 times as many dimensions.
    """

    def __init__(self, in_channels: int = 1, width: int = 24) -> None:
        layers = nn.Sequential(
            *_layer(in_channels, width, stride=2, size=5),
            *_layer(width, 2 * width),
            *_layer(2 * width, 4 * width, stride=2),
            *_layer(4 * width, 4 * width),
            *_layer(4 * width, 8 * width, stride=2),
            *_layer(8 * width, 8 * width),
        )
        super().__init__(layers, 8 * width)


def _layer(
    in_channels: int, out_channels: int, stride: int = 1, size: int = 3
) -> tuple[nn.Module, ...]:
    return (
        convolution(in_channels, out_channels, stride, size),
        GlobalBatchNorm2d(out_channels),
        nn.ReLU(),
    )
