"""The networks of a run: a backbone, its projection, a clustering head, rebuilt from plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from common.backbones import Backbone, make_backbone
from common.ranks import join_shares, own_share
from common.run_folder import CHECKPOINT, RunFolder
from pseudolabel import ClusterHeads


class Encoder(nn.Module):
    """From views to features; of several ranks each does its share, see `common.ranks`.

    Args:
        backbone: See `common.backbones`.
        projection: Width of the two-layer projection on top of it (MoCo v2's), or None for none.
    """

    def __init__(self, backbone: Backbone, projection: int | None) -> None:
        super().__init__()
        width = backbone.out_features
        self.backbone = backbone
        layers = [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection or 1)]
        self.projection = nn.Sequential(*(layers if projection else []))
        self.out_features = projection or width

    def forward(self, views: Tensor) -> Tensor:
        """Features ``(B, out_features)`` of views ``(B, C, H, W)``."""
        return join_shares(self.projection(self.backbone(own_share(views))), len(views))


def encoders_of(module: nn.Module) -> list[Encoder]:
    """The encoders in a module."""
    return [part for part in module.modules() if isinstance(part, Encoder)]


@dataclass(frozen=True)
class Architecture:
    """What it takes to build the network that a run ends with.

    Attributes:
        backbone: Its name.
        width: Channels of its first layer; None for the published number.
        in_channels: 1 for grey images, 3 for colour.
        projection: Width of the projection under the head, or None.
        hidden: Width of the head's hidden layer.
        norm: The head's normalisation.
        num_classes: K.
    """

    backbone: str
    width: int | None
    in_channels: int
    projection: int | None
    hidden: int
    norm: Literal["batch"] | None
    num_classes: int

    def build_backbone(self) -> Backbone:
        """The backbone alone, with fresh weights."""
        return make_backbone(self.backbone, self.in_channels, width=self.width)

    def build(self) -> nn.Sequential:
        """Encoder and head, with fresh weights."""
        encoder = Encoder(self.build_backbone(), self.projection)
        heads = ClusterHeads(
            1,
            encoder.out_features,
            self.num_classes,
            hidden_features=self.hidden,
            norm=self.norm,
        )
        return nn.Sequential(encoder, heads.head(0))


def save_parts(folder: RunFolder, modules: Mapping[str, nn.Module]) -> None:
    """Writes the modules of a run by name, from which `load_part` loads them."""
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    folder.write_tensors(CHECKPOINT, tensors)


def load_part(module: nn.Module, run: Path, part: str) -> None:
    """Loads what a run has saved of one of its modules.

    Args:
        module: Of the same architecture.
        run: The run's folder.
        part: ``"encoder"``, ``"head"``, ``"network"``, or a module of one: ``"network.0"``.

    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
        ValueError: If its file is damaged or lacks the part, or the architecture is another.
    """
    path = run / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the checkpoint of a run, got no such file")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected the checkpoint of a run, got a damaged file ({error})"
        ) from None
    prefix = f"{part}."
    saved = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    if not saved:
        raise ValueError(f"{path}: expected the {part} of a run that is over, got a file without")
    try:
        module.load_state_dict(saved)
    except RuntimeError as error:
        # Torch says it in many lines.
        said = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected the {part} of this run's architecture; {said}"
        ) from None
