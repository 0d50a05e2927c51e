"""RPSC: robust pseudo-labels with a confidence, learned by a soft contrastive loss.

    python examples/rpsc.py digits --seed 3 --out runs/rpsc-3

Stage 1 learns features by contrast. RPSC-Self trains ten heads on them by prototype pseudo-labels
that are read from clean images and trusted by their distance to the prototype. RPSC-Semi labels
every image by its nearest prototype and trains the whole network from the labels that their
neighbours confirm, with FreeMatch's adaptive thresholds. The ground truth reaches the table alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from common.clustering import HeadSettings
from common.head_losses import HeadLossName, LossSettings, head_loss
from common.pipeline import Pipeline, main
from common.prototype_task import PrototypeTask
from common.report import Outcome
from common.semi_supervised import thresholded
from common.settings import RunSettings, ViewName, run_from_command_line

from pseudolabel import SelfAdaptiveThreshold, nearest_prototype, prototype_labels


@dataclass(frozen=True)
class Settings(RunSettings):
    """What RPSC can be told."""

    heads: HeadSettings = field(default_factory=lambda: HeadSettings(norm="batch"))
    prototype_ratio: float = 0.5
    """Share of a cluster that makes its prototype; the paper's gamma."""
    loss: HeadLossName = "scl"
    """What heads learn by: scl (Eq. 4-5), its parts scl-1 to scl-3 (Table 4), or ce (Table 5)."""
    loss_details: LossSettings = field(default_factory=LossSettings)
    label_view: ViewName = "clean"
    """The view that labels are read from; clean in the paper, others in its Table 3 (1-Aug)."""
    learn_view: ViewName = "strong"
    """The view that heads learn on; strong in the paper, clean in its Table 3 (2-Aug)."""
    labels: Literal["prototype", "head"] = "prototype"
    """What judges an image before the joint training: its nearest prototype (Eq. 6), or the head,
    as in SPICE."""
    threshold_momentum: float = 0.999
    """Of the adaptive thresholds; FreeMatch's."""


def run(pipeline: Pipeline[Settings]) -> Outcome:
    """RPSC-Self and RPSC-Semi."""
    settings, embeddings = pipeline.settings, pipeline.represent()
    rule = partial(prototype_labels, prototype_ratio=settings.prototype_ratio)
    trained = pipeline.train_heads(
        PrototypeTask(
            pipeline.images,
            embeddings,
            settings.heads,
            num_classes=pipeline.num_classes,
            label=rule,
            loss=head_loss(settings.loss, settings.loss_details),
            clean=pipeline.views.clean,
            label_view=pipeline.view(settings.label_view),
            learn_view=pipeline.view(settings.learn_view),
        )
    )
    labels = trained.probs.argmax(-1)
    if settings.labels == "prototype":
        labels = nearest_prototype(embeddings, rule(embeddings, trained.probs).prototypes)
    reliable = pipeline.judge(labels, trained.probs)
    threshold = SelfAdaptiveThreshold(
        pipeline.num_classes, momentum=settings.threshold_momentum, strict=True
    )
    consistency = thresholded(pipeline.fabric.to_device(threshold))
    network = pipeline.train_jointly(trained, reliable, consistency)
    return pipeline.outcome(trained, reliable, network)


PRESETS = {"digits": ("1,797 digits of 8 x 8 pixels, two minutes on one CPU core", Settings())}

if __name__ == "__main__":
    run_from_command_line(__doc__, PRESETS, partial(main, run=run))
