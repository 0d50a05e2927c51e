"""Settings of the papers and of the published code, data set by data set.

A method puts its own on top. Where every source is silent the presets have what SPICE's published
code has for another data set, and say so here: MoCo's queue is 12,800 (given for CIFAR-10) wherever
the default of 65,536 would hold more than all the images; RPSC's number of rounds, repeats, batch
size and optimiser are SPICE's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from common.representation import RepresentationSettings
from common.semi_supervised import JointSettings
from common.settings import BackboneSettings, DataSettings, ReliabilitySettings, RunSettings

SettingsType = TypeVar("SettingsType", bound=RunSettings)
Presets = dict[str, tuple[str, SettingsType]]

DIGITS = "1,797 digits of 8 x 8 pixels; two minutes on one CPU core"
FILES = "; needs --data.root"


@dataclass(frozen=True)
class Published:
    """What is published about one data set.

    Attributes:
        images: Of the whole data set.
        backbone: Of stages 1 and 2 in SPICE's paper on the whole data set, and in RPSC's.
        code_backbone: The same in SPICE's code.
        joint_backbone: Of stage 3, FixMatch's; None for the same ResNet.
        samples: Labelled a round (M) in RPSC, which says that they are SPICE's.
        code_samples: The same in SPICE's code; None where it has no settings at all.
        code_reliable_from: Share of agreeing neighbours in SPICE's code.
        moco_epochs: In SPICE's code, to judge by the checkpoints that it names.
        queue: MoCo's.
        code_epochs: Of head training in SPICE's code.
    """

    images: int
    backbone: str
    code_backbone: str
    joint_backbone: str | None
    samples: int
    code_samples: int | None
    code_reliable_from: float = 0.9
    moco_epochs: int = 1000
    queue: int = 12800
    code_epochs: int = 100


POOLED, LARGE = "resnet-34-pooled", "resnet-34"
PUBLISHED = {
    "stl10": Published(13000, POOLED, POOLED, "wrn-37-2", 1000, 5000, queue=65536),
    "cifar10": Published(
        60000, POOLED, "resnet-18-small", "wrn-28-2", 1000, 5000, 0.99, code_epochs=30
    ),
    "cifar100-20": Published(60000, POOLED, POOLED, "wrn-28-8", 2000, 10000, 0.99),
    "imagenet-10": Published(13000, LARGE, LARGE, None, 1000, 5000, moco_epochs=5000),
    "imagenet-dogs-15": Published(19500, LARGE, LARGE, None, 1500, 8000, moco_epochs=3000),
    "tiny-imagenet": Published(110000, POOLED, POOLED, None, 5000, None, queue=65536),
}

FIXMATCH = JointSettings(
    steps=2**20,
    labelled_batch=64,
    unlabelled_batch=448,
    optimizer="nesterov",
    learning_rate=0.03,
    weight_decay=5e-4,
    schedule="fixmatch",
    average=0.999,
)
"""FixMatch's settings, of SPICE's and RPSC's stage 3; FreeMatch's are the same."""
CIFAR_100_DECAY = 1e-3
"""Their weight decay for CIFAR-100; SPICE's published code has that of the other data sets."""

CODE_RELIABILITY = ReliabilitySettings(
    neighbors=100, strict=False, include_self=True, min_confidence=0.99, balance=True
)
"""How SPICE's published code judges labels, but for the share, which differs by data set."""


def moco(published: Published) -> RepresentationSettings:
    """MoCo-v2 as SPICE's published code has it; RPSC names the method alone."""
    return RepresentationSettings(
        epochs=published.moco_epochs,
        batch_size=128,
        queue=published.queue,
        temperature=0.2,
        projection=128,
        optimizer="sgd",
        learning_rate=0.015,
        weight_decay=1e-4,
        features="backbone",
    )


def paper(settings: SettingsType, name: str, **changes: Any) -> SettingsType:  # noqa: ANN401
    """Settings of a method as its paper has them for a data set.

    Args:
        settings: The method's; what is not of one of the three stages stays.
        name: Of the data set.
        changes: Fields of the method's own.
    """
    published = PUBLISHED[name]
    heads = replace(
        settings.heads,
        hidden=512,
        rounds=published.code_epochs * (published.images // published.samples),
        samples=published.samples,
        batch_size=128,
        repeats=8,
        learning_rate=0.005,
        # Without it Tiny-ImageNet's clusters run empty, says SPICE's paper, which gives no weight.
        entropy=1.0 if name == "tiny-imagenet" else settings.heads.entropy,
    )
    return replace(
        settings,
        **{
            "data": DataSettings(name, unlabelled=name == "stl10"),
            "backbone": BackboneSettings(published.backbone),
            "representation": moco(published),
            "heads": heads,
            "reliability": ReliabilitySettings(neighbors=100),
            "joint": replace(FIXMATCH, weight_decay=CIFAR_100_DECAY)
            if name == "cifar100-20"
            else FIXMATCH,
            "baselines": False,
            **changes,
        },
    )


def spice_code(settings: SettingsType, name: str) -> SettingsType:
    """Settings of SPICE as its published code has them for a data set."""
    published = PUBLISHED[name]
    rounds = published.images // published.code_samples
    settings = paper(settings, name)
    return replace(
        settings,
        backbone=BackboneSettings(published.code_backbone),
        heads=replace(
            settings.heads,
            rounds=published.code_epochs * rounds,
            samples=published.code_samples,
            keep="best",
            evaluate_every=rounds,
        ),
        reliability=replace(CODE_RELIABILITY, above=published.code_reliable_from),
        joint=FIXMATCH,
        start="fresh",
        joint_backbone=published.joint_backbone,
    )


def fashion_mnist(settings: SettingsType, *, samples: int | None) -> SettingsType:
    """Our own for the 70,000 images of Fashion-MNIST, which neither paper has.

    Args:
        settings: The method's.
        samples: Labelled a round.
    """
    return replace(
        settings,
        data=DataSettings("fashion-mnist"),
        backbone=BackboneSettings("convnet-28"),
        representation=RepresentationSettings(
            epochs=20, queue=4096, temperature=0.2, projection=128, features="backbone"
        ),
        heads=replace(settings.heads, samples=samples),
        reliability=ReliabilitySettings(neighbors=100),
        joint=replace(settings.joint, steps=2000),
    )
