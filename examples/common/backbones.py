"""Networks that turn images into feature vectors. Each tells the width as `out_features`."""

from __future__ import annotations

from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Four convolutions for images of about 8 x 8 pixels.

    The features are pooled to 2 x 2 places, not to one: on so few pixels the place of a stroke is
    what tells digits apart.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the first layer; the features have 16 times as many dimensions.
    """

    def __init__(self, in_channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(in_channels, width),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width, stride=2),
            *_convolution(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.out_features = 16 * width

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(B, out_features)`` of images ``(B, C, H, W)``."""
        return self.layers(images)


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]
