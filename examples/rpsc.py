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
from common.head_losses import HeadLossName, LossSettings, head_loss, loss_floor
from common.pipeline import Pipeline, main
from common.presets import DIGITS, FILES, PUBLISHED, Presets, fashion_mnist, paper
from common.prototype_task import PrototypeTask
from common.ranges import Ratio, Share
from common.report import Outcome
from common.semi_supervised import Thresholded
from common.settings import RunSettings, ViewName, run_from_command_line

from pseudolabel import SelfAdaptiveThreshold, nearest_prototype, prototype_labels


@dataclass(frozen=True)
class Settings(RunSettings):
    """What RPSC can be told."""

    heads: HeadSettings = field(default_factory=lambda: HeadSettings(norm="batch"))
    prototype_ratio: Ratio = 0.5
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
    threshold_momentum: Share = 0.999
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
            floor=loss_floor(
                settings.loss,
                settings.loss_details,
                num_classes=pipeline.num_classes,
                batch_size=settings.heads.batch_size,
            ),
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
    consistency = Thresholded(threshold)
    network = pipeline.train_jointly(trained, reliable, consistency)
    return pipeline.outcome(trained, reliable, network)


PRESETS: Presets[Settings] = {
    "digits": (DIGITS, Settings()),
    "fashion-mnist": (
        "our own settings, all 70,000 images",
        fashion_mnist(Settings(), samples=10000),
    ),
}
for name, published in PUBLISHED.items():
    # "Retrained", in FreeMatch's framework: on its networks, from fresh weights.
    of_paper = paper(Settings(), name, start="fresh", joint_backbone=published.joint_backbone)
    PRESETS[f"{name}-paper"] = ("as in the paper, where it says" + FILES, of_paper)

ABLATIONS = {
    "Table 3, No and No": "--learn-view clean",
    "Table 3, Yes and No": "--label-view strong --learn-view clean",
    "Table 3, Yes and Yes": "--label-view strong",
    "Table 3, weak labels": "--label-view weak",
    "Table 4, SCL-1": "--loss scl-1",
    "Table 4, SCL-2": "--loss scl-2",
    "Table 4, SCL-3": "--loss scl-3",
    "Table 5, RPSC-CE": "--loss ce",
    "Eq. 3, confidence as printed": "--loss-details.scl-confidence paper",
    "Eq. 4, confidence as weight": "--loss-details.scl-mode weight",
    "Eq. 4, confidence as smoothing": "--loss-details.scl-mode smooth",
    "Eq. 4, as printed": "--loss-details.scl-mode literal",
    "heads without normalisation": "--heads.norm None",
    "Eq. 6, labels of the head": "--labels head",
    "fresh start": "--start fresh",
}
"""Options by what the paper calls what they change; Figs. 1 and 3 take none, for every run has the
first, and the second with ``--heads.evaluate-every`` changes nothing else."""

if __name__ == "__main__":
    run_from_command_line(__doc__, PRESETS, partial(main, run=run))
