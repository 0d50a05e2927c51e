"""Wide ResNets (Zagoruyko & Komodakis, 2016), with the leaky activation of FixMatch's."""

from __future__ import annotations

from torch import Tensor, nn

from common.backbones.backbone import Backbone, convolution, initialise
from common.ranks import GlobalBatchNorm2d

SLOPE = 0.1


class WideResNet(Backbone):
    """A wide ResNet without its classifier, normalised and activated before each convolution.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the stem; 16 in the papers.
        factor: The first stage has ``factor * width`` channels, each later one twice as many.
        stages: 3 in WRN-28, for 32 x 32; 4 in WRN-37, for 96 x 96.
        blocks: In each stage.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 16,
        *,
        factor: int = 2,
        stages: int = 3,
        blocks: int = 4,
    ) -> None:
        layers = nn.Sequential(convolution(in_channels, width))
        channels = width
        for stage in range(stages):
            stage_channels = factor * width * 2**stage
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(PreActivationBlock(channels, stage_channels, stride))
                channels = stage_channels
        layers.append(_activation(channels))
        initialise(layers, "leaky_relu", SLOPE)
        super().__init__(layers, channels)


class PreActivationBlock(nn.Module):
    """Two 3 x 3 convolutions, each after its activation, beside a shortcut.

    Where shapes change, the shortcut is projected, and starts at the activation like the rest.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.activation = _activation(in_channels)
        self.residual = nn.Sequential(
            convolution(in_channels, out_channels, stride),
            _activation(out_channels),
            convolution(out_channels, out_channels),
        )
        self.shortcut = None
        if stride > 1 or in_channels != out_channels:
            self.shortcut = convolution(in_channels, out_channels, stride, size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps of feature maps."""
        activated = self.activation(images)
        kept = images if self.shortcut is None else self.shortcut(activated)
        return self.residual(activated) + kept


def _activation(channels: int) -> nn.Sequential:
    return nn.Sequential(GlobalBatchNorm2d(channels), nn.LeakyReLU(SLOPE))
