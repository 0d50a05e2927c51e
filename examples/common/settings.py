"""What every method can be told on the command line, beside what is its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from common.backbones import BACKBONES
from common.clustering import HeadSettings
from common.data import Protocol
from common.journal import GO_ON, Stopped
from common.ranges import Count, NonNegative, Range, Share
from common.representation import RepresentationSettings
from common.semi_supervised import JointSettings

ViewName = Literal["clean", "weak", "strong"]


@dataclass(frozen=True)
class DataSettings:
    """Which images."""

    name: str = "digits"
    """digits, fashion-mnist, cifar10, cifar100-20, stl10, imagenet-10, imagenet-dogs-15,
    tiny-imagenet, or folder for any folder of images, labelled by its class folders or not at
    all."""
    root: Path | None = None
    """Folder of the files; None for the usual place, which digits and fashion-mnist have."""
    protocol: Protocol = "whole"
    """Train and evaluate on all images, or train on the train part and evaluate on the test part
    too: SPICE's Tables II and III."""
    num_classes: Annotated[int, Range(2)] | None = None
    """Clusters to find (K); None for the number of classes, which a flat folder does not tell."""
    unlabelled: bool = False
    """Learn the representation on the unlabelled part too; stl10 alone has one."""
    size: Annotated[int, Range(8)] | None = None
    """Height and width to which image files are scaled; None for 224 (ImageNet), 64 (Tiny-ImageNet)
    or 32 (folder)."""
    channels: Literal[1, 3] | None = None
    """Of image files: 3, or 1 for grey; None for 3."""
    cache: Path | None = None
    """Folder for decoded image files that do not fit in memory."""
    on_device: bool = True
    """Keep the images on the device, as uint8; otherwise each batch is copied there."""


@dataclass(frozen=True)
class BackboneSettings:
    """Which network gives the features."""

    name: str = "convnet-8"
    """convnet-8 (digits), convnet-28 (Fashion-MNIST), resnet-18, resnet-34, the same with a 3 x 3
    stem for images of 32 or 64 pixels (resnet-18-small, resnet-34-small), SPICE's resnet-34-pooled,
    wrn-28-2, wrn-28-8 or wrn-37-2."""
    width: Count | None = None
    """Channels of the first layer; None for the published number."""


@dataclass(frozen=True)
class ReliabilitySettings:
    """Which labels the joint training starts from."""

    neighbors: Count = 20
    """Neighbours asked about a label; 100 in both papers, whose classes are ten times as large and
    more."""
    above: Share = 0.95
    """Share of the neighbours that has to be exceeded: 0.95 in RPSC, 0.90 or 0.99 in SPICE's
    published code, by data set."""
    strict: bool = True
    """Exceeded (both papers), or reached (SPICE's published code)."""
    include_self: bool = False
    """Whether a sample is one of its own neighbours; it is in SPICE's published code."""
    min_confidence: Share | None = None
    """A probability to be exceeded as well: 0.99 in SPICE's published code, none in the papers."""
    balance: bool = False
    """Cut every class to the size of the smallest, as SPICE's published code does."""
    train_on: Literal["reliable", "all"] = "reliable"
    """Which labels joint training learns: the reliable ones, or all of them (SPICE's Fig. 7)."""


@dataclass(frozen=True)
class RunSettings:
    """What a run of any method can be told."""

    out: Path = Path("runs/latest")
    """Folder of the run; must be new or empty."""
    overwrite: bool = False
    """Replace the files of an earlier run."""
    resume: bool = False
    """Go on with the run in that folder from its last checkpoint, with the same result as if it had
    never stopped; all that tells one result from another must be as it was. Without a run there,
    start one."""
    checkpoint_every: NonNegative = 60.0
    """Seconds between two checkpoints of a stage; the last two are kept until the run is over."""
    seed: Annotated[int, Range(0, 2**32 - 4)] = 0
    """The same seed gives the same result on the same CPU. Stages have seeds of their own, at
    most three more."""
    accelerator: str = "auto"
    """Lightning Fabric's: auto (a GPU if there is one), cpu or gpu."""
    threads: Count = 1
    """On the CPU. A network this small gains little from more, and loses much if a core is busy."""
    precision: Literal["32-true", "bf16-mixed", "64-true"] = "32-true"
    """Lightning Fabric's. In 64-true no rounding decides anything: for comparisons."""
    compile: bool = False
    """Compile encoder and network; pays on a GPU in long trainings."""
    encoder_from: Path | None = None
    """Folder of a run with the same backbone, whose encoder is taken over; stage 1 is left out. The
    run need not be over, if its stage 1 is."""
    encoder_after: Literal[1, 3] = 1
    """Which encoder of that run: that of stage 1, or the one that its joint training has left, for
    a second pass (ours, in neither paper)."""
    pictures: bool = True
    """Draw the pictures; the map of the embeddings alone takes seconds."""
    baselines: bool = True
    """Score k-means on the pixels and on the features; minutes for large images (SPICE's Table IV
    has the latter)."""
    probe: bool = False
    """Score a linear classifier on the backbone's features, before and after joint training
    (SPICE's Table VI)."""
    data: DataSettings = field(default_factory=DataSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    representation: RepresentationSettings = field(default_factory=RepresentationSettings)
    heads: HeadSettings = field(default_factory=HeadSettings)
    reliability: ReliabilitySettings = field(default_factory=ReliabilitySettings)
    start: Literal["warm", "fresh"] = "warm"
    """Joint training goes on from stages 1 and 2 (SPICE's paper), or anew (its published code)."""
    joint_backbone: str | None = None
    """Name of the backbone of a fresh joint training; None for the one of stage 1. WideResNets in
    SPICE's Table II and in its published code."""
    joint: JointSettings = field(default_factory=JointSettings)

    def check(self, num_images: int, num_classes: int) -> None:
        """Checks what ranges leave open and what the images decide, before stage 1.

        Args:
            num_images: N.
            num_classes: K.

        Raises:
            ValueError: If a value is not possible; names the option.
        """
        for option, name in (
            ("--backbone.name", self.backbone.name),
            ("--joint-backbone", self.joint_backbone),
        ):
            if name is not None and name not in BACKBONES:
                raise ValueError(f"{option}: expected one of {', '.join(BACKBONES)}, got {name!r}")
        if self.encoder_from is None and self.encoder_after != 1:
            raise ValueError("--encoder-after: expected a run to take it from; see --encoder-from")
        if self.encoder_from is not None and self.encoder_from.resolve() == self.out.resolve():
            raise ValueError(f"--encoder-from: expected a folder other than --out, got {self.out}")
        if self.joint_backbone is not None and self.start == "warm":
            raise ValueError("--joint-backbone: expected none for a warm start; see --start")
        if self.drawn is not None and self.drawn < num_classes:
            raise ValueError(
                f"--heads.samples: expected one a cluster at least, {num_classes}, got {self.drawn}"
            )
        limits = {"--data.num-classes": (num_classes, num_images), **self.limits(num_images)}
        for option, (asked, most) in limits.items():
            if asked > most:
                raise ValueError(f"{option}: expected at most {most} for these images, got {asked}")

    @property
    def drawn(self) -> int | None:
        """Samples that stage 2 labels a round; None for all, or where a method labels none."""
        return self.heads.samples

    def limits(self, num_images: int) -> dict[str, tuple[int, int]]:
        """By option how many are asked for, and how many of the images there are at most."""
        most = num_images - 1 + self.reliability.include_self
        return {"--reliability.neighbors": (self.reliability.neighbors, most)}


SettingsType = TypeVar("SettingsType", bound=RunSettings)


def command_line(
    description: str,
    presets: Mapping[str, tuple[str, SettingsType]],
    arguments: Sequence[str],
) -> SettingsType:
    """Settings from a preset's name and options that override its fields.

    Args:
        description: What the method is, shown by ``--help``.
        presets: By name a line about it and its settings; the first one is meant where the
            arguments begin with an option.
        arguments: As on the command line.
    """
    description = f"{description}\n\nWithout a preset: {next(iter(presets))}."
    asks_for_help = arguments[:1] in (["-h"], ["--help"])
    if not asks_for_help and not (arguments and arguments[0] in presets):
        unknown = arguments and not arguments[0].startswith("-")
        arguments = arguments if unknown else [next(iter(presets)), *arguments]
    return tyro.extras.overridable_config_cli(
        dict(presets), description=description, args=list(arguments)
    )


def run_from_command_line(
    description: str,
    presets: Mapping[str, tuple[str, SettingsType]],
    main: Callable[[SettingsType], None],
) -> None:
    """Runs a method as a program; what the user or the machine got wrong ends it with one line."""
    try:
        main(command_line(description, presets, sys.argv[1:]))
    except (OSError, ValueError, FloatingPointError, MemoryError, Stopped) as error:
        raise SystemExit(f"error: {error or 'not enough memory'}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"\ninterrupted. {GO_ON}") from None
