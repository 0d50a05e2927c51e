"""ResNets of basic blocks (He et al., 2016), for small images and for large ones."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from common.backbones.backbone import Backbone, convolution, initialise
from common.ranks import GlobalBatchNorm2d


class ResNet(Backbone):
    """A ResNet without its classifier.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the first stage; each later one doubles them.
        blocks: How many each stage has: 2, 2, 2, 2 in ResNet-18 and 3, 4, 6, 3 in ResNet-34.
        stem: ``"small"`` starts with a 3 x 3 convolution at full size, for images of 32 x 32 or so;
            ``"pooled"`` has a max-pool after it, as SPICE's published code for STL-10, CIFAR-100-20
            and Tiny-ImageNet; ``"standard"`` starts with a 7 x 7 convolution of stride 2 and a
            max-pool, for 224 x 224.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        *,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        stem: Literal["small", "pooled", "standard"] = "small",
    ) -> None:
        layers = _stem(in_channels, width, stem)
        channels = width
        for stage, count in enumerate(blocks):
            stage_channels = width * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(channels, stage_channels, stride))
                channels = stage_channels
        initialise(layers, "relu")
        super().__init__(layers, channels)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is projected where shapes change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            convolution(in_channels, out_channels, stride),
            GlobalBatchNorm2d(out_channels),
            nn.ReLU(),
            convolution(out_channels, out_channels),
            GlobalBatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or in_channels != out_channels:
            projection = convolution(in_channels, out_channels, stride, size=1)
            self.shortcut = nn.Sequential(projection, GlobalBatchNorm2d(out_channels))
        self.activation = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps of feature maps."""
        return self.activation(self.residual(images) + self.shortcut(images))


def _stem(in_channels: int, width: int, kind: str) -> nn.Sequential:
    standard = kind == "standard"
    stem = nn.Sequential(
        convolution(in_channels, width, *((2, 7) if standard else (1, 3))),
        GlobalBatchNorm2d(width),
        nn.ReLU(),
    )
    if standard:
        stem.append(nn.MaxPool2d(3, stride=2, padding=1))
    elif kind == "pooled":
        stem.append(nn.MaxPool2d(2, stride=2, padding=1))
    return stem
