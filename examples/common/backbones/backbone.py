"""What all networks that turn images into feature vectors share."""

from __future__ import annotations

from torch import Tensor, nn


class Backbone(nn.Module):
    """Layers that give a feature map, then an average over its places.

    Args:
        layers: From images ``(B, C, H, W)`` to a feature map ``(B, channels, h, w)``.
        channels: Of the feature map.
        places: Along each axis the map is averaged to so many places, all of which the features
            keep; with 1 the features are the mean of the map, and what is near to them can be
            looked for in the map itself.

    Attributes:
        out_features: Dimensions of the features.
    """

    def __init__(self, layers: nn.Module, channels: int, places: int = 1) -> None:
        super().__init__()
        self.layers = layers
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(places), nn.Flatten())
        self.out_features = channels * places**2

    def feature_map(self, images: Tensor) -> Tensor:
        """The map ``(B, channels, h, w)`` of images ``(B, C, H, W)``, before the average."""
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(B, out_features)`` of images ``(B, C, H, W)``."""
        return self.pool(self.feature_map(images))


def convolution(in_channels: int, out_channels: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    """A convolution that keeps height and width, or halves them; what follows adds the bias."""
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


def initialise(layers: nn.Module, activation: str, slope: float = 0.0) -> None:
    """He et al.'s normal weights for convolutions, by the number of outputs, as in ResNets."""
    for module in layers.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, slope, mode="fan_out", nonlinearity=activation)
