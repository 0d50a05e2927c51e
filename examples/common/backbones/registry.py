"""One entry point to all networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from common.backbones.backbone import Backbone
from common.backbones.resnet import ResNet
from common.backbones.small import MediumConvNet, SmallConvNet
from common.backbones.wide_resnet import WideResNet

RESNET_18, RESNET_34 = (2, 2, 2, 2), (3, 4, 6, 3)

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "convnet-8": SmallConvNet,
    "convnet-28": MediumConvNet,
    "resnet-18": partial(ResNet, blocks=RESNET_18, stem="standard"),
    "resnet-18-small": partial(ResNet, blocks=RESNET_18, stem="small"),
    "resnet-34": partial(ResNet, blocks=RESNET_34, stem="standard"),
    "resnet-34-pooled": partial(ResNet, blocks=RESNET_34, stem="pooled"),
    "resnet-34-small": partial(ResNet, blocks=RESNET_34, stem="small"),
    "wrn-28-2": partial(WideResNet, factor=2),
    "wrn-28-8": partial(WideResNet, factor=8),
    "wrn-37-2": partial(WideResNet, factor=2, stages=4),
}
"""The networks by name; a number after convnet is the size of the images it is made for, and
``small``, or ``pooled`` with a max-pool, the stem for small images."""


def make_backbone(name: str, in_channels: int, *, width: int | None = None) -> Backbone:
    """A network with fresh weights, by torch's global generator.

    Args:
        name: One of `BACKBONES`.
        in_channels: 1 for grey images, 3 for colour.
        width: Channels of the first layer; None for the published number.

    Raises:
        ValueError: If there is no such network, or a number is below 1.

    Example:
        >>> make_backbone("resnet-18-small", 3).out_features
        512
    """
    if name not in BACKBONES:
        raise ValueError(f"name: expected one of {', '.join(BACKBONES)}, got {name!r}")
    for argument, value in (("in_channels", in_channels), ("width", width)):
        if value is not None and value < 1:
            raise ValueError(f"{argument}: expected at least 1, got {value}")
    return BACKBONES[name](in_channels, **({} if width is None else {"width": width}))
