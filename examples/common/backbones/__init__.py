"""Networks that turn images into feature vectors: `make_backbone` makes them all."""

from common.backbones.backbone import Backbone
from common.backbones.registry import BACKBONES, make_backbone
from common.backbones.small import SmallConvNet

__all__ = ["BACKBONES", "Backbone", "SmallConvNet", "make_backbone"]
