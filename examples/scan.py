"""SCAN: clusters of nearest neighbours, then self-labelling.

    python examples/scan.py digits --seed 3 --out runs/scan-3

Stage 1 learns features by contrast. Stage 2 trains heads to give a sample and its neighbours the
same prediction. Stage 3 trains the whole network on its own confident predictions, by SCAN's
class-balanced cross-entropy or by RPSC's soft contrastive loss. The ground truth reaches the table
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Literal

import torch
from common.clustering import HeadSettings
from common.head_losses import LossSettings
from common.neighbor_task import NeighborTask
from common.pipeline import Pipeline, main
from common.presets import DIGITS, FILES, Presets, fashion_mnist, paper
from common.ranges import Count, Share
from common.ranks import rank
from common.report import Outcome
from common.semi_supervised import JointSettings, Thresholded
from common.settings import (
    BackboneSettings,
    DataSettings,
    RunSettings,
    ViewName,
    run_from_command_line,
)
from torch import Tensor, nn

from pseudolabel import FixedThreshold, Selection, consistency_loss, soft_contrastive_loss

CODE = "as in the published code, after MoCo" + FILES
UNUSED = (
    *("heads.samples", "start", "joint-backbone", "reliability.train-on", "joint.labelled-batch"),
    *("loss-details.ce-temperature", "loss-details.scl-confidence"),
)
"""Options of the other methods: self-labelling goes on with the network of stage 2, and learns no
labels but its own."""


@dataclass(frozen=True)
class Settings(RunSettings):
    """What SCAN can be told."""

    heads: HeadSettings = field(
        default_factory=lambda: HeadSettings(entropy=5.0, rounds=10, repeats=4)
    )
    joint: JointSettings = field(
        default_factory=lambda: JointSettings(
            steps=100, optimizer="adam", learning_rate=1e-4, weight_decay=1e-4, schedule="constant"
        )
    )
    mined: Count = 20
    """Neighbours of a sample; 20 in the paper, 50 for ImageNet."""
    loss: Literal["ce", "scl"] = "ce"
    """What self-labelling learns by: cross-entropy (SCAN), or RPSC's loss (its Table 5, Fig. 4)."""
    loss_details: LossSettings = field(default_factory=LossSettings)
    learn_view: ViewName = "strong"
    """The view that heads learn on; strong in the paper."""
    confident_from: Share = 0.99
    """Probability from which a prediction labels a sample; 0.99 in the paper."""

    def check(self, num_images: int, num_classes: int) -> None:
        """Tells what SCAN has no use for, too."""
        super().check(num_images, num_classes)
        for option in UNUSED:
            value = attrgetter(option.replace("-", "_"))
            if value(self) != value(Settings()) and rank() == 0:
                print(f"--{option} changes nothing: SCAN has no use for it.")

    @property
    def drawn(self) -> None:
        """A round goes over all images."""

    def limits(self, num_images: int) -> dict[str, tuple[int, int]]:
        """Neighbours of stage 2, too."""
        return {**super().limits(num_images), "--mined": (self.mined, num_images - 1)}


def run(pipeline: Pipeline[Settings]) -> Outcome:
    """Representation, clustering and self-labelling."""
    settings, embeddings = pipeline.settings, pipeline.represent()
    trained = pipeline.train_heads(
        NeighborTask(
            pipeline.images,
            embeddings,
            settings.heads,
            num_classes=pipeline.num_classes,
            neighbors=settings.mined,
            clean=pipeline.views.clean,
            learn_view=pipeline.view(settings.learn_view),
        )
    )
    # SCAN does without this judgement; it is made for comparison with the other methods.
    reliable = pipeline.judge(trained.probs.argmax(-1), trained.probs)
    network = nn.Sequential(trained.encoder, trained.head)
    consistency = SelfLabelling(settings)
    name = f"3 self-labelling, {settings.loss}"
    network = pipeline.refine(network, None, consistency, pipeline.views.strong, name)
    return pipeline.outcome(trained, reliable, network)


class SelfLabelling(Thresholded):
    """The loss of the predictions that pass the threshold."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(FixedThreshold(settings.confident_from))
        self.settings = settings

    def forward(self, probs: Tensor, logits: Tensor) -> Tensor:
        """Class-balanced cross-entropy, or RPSC's loss."""
        selection = self.threshold(probs)
        targets, weights = selection
        self.selected = weights.mean()
        if self.settings.loss == "ce":
            return consistency_loss(logits, targets, balanced(selection, probs.shape[-1]))
        details = self.settings.loss_details
        return soft_contrastive_loss(
            logits.softmax(-1),
            targets.where(weights > 0, -1),
            probs.amax(-1),
            temperature=details.scl_temperature,
            confidence_mode=details.scl_mode,
        )


def balanced(selection: Selection, num_classes: int) -> Tensor:
    """Weights ``(B,)`` that sum to B and are the same in sum for every class that has any."""
    targets, weights = selection
    counts = weights.new_zeros(num_classes).index_add(0, targets, weights)
    weights = weights / counts[targets].clamp(min=1)
    return weights * len(weights) / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def published(name: str, *, epochs: int, batch_size: int, steps: int) -> Settings:
    """Settings of SCAN's published code; its head is one linear layer, ours has two."""
    train = {"learning_rate": 1e-4, "weight_decay": 1e-4}
    return paper(
        Settings(),
        name,
        data=DataSettings(name, protocol="split", unlabelled=name == "stl10"),
        backbone=BackboneSettings("resnet-18" if name == "stl10" else "resnet-18-small"),
        heads=HeadSettings(
            heads=1,
            hidden=512,
            rounds=epochs,
            batch_size=batch_size,
            repeats=1,
            entropy=5.0,
            encoder="joint",
            **train,
        ),
        joint=JointSettings(
            steps, unlabelled_batch=1000, optimizer="adam", schedule="constant", average=0, **train
        ),
    )


PRESETS: Presets[Settings] = {
    "digits": (DIGITS, Settings()),
    "fashion-mnist": (
        "our own settings, all 70,000 images",
        fashion_mnist(Settings(), samples=None),
    ),
    "stl10-code": (CODE, published("stl10", epochs=100, batch_size=128, steps=500)),
    "cifar10-code": (CODE, published("cifar10", epochs=50, batch_size=128, steps=10000)),
    "cifar100-20-code": (CODE, published("cifar100-20", epochs=100, batch_size=512, steps=10000)),
}

ABLATIONS = {
    "RPSC's Table 5, SCAN-SCL": "--loss scl",
    "encoder that learns": "--heads.encoder joint",
    "no entropy": "--heads.entropy 0",
}
"""Options by what they change; RPSC's Fig. 4 is the first with ``--joint.evaluate-every``."""

if __name__ == "__main__":
    run_from_command_line(__doc__, PRESETS, partial(main, run=run))
