"""SPICE: three stages, one table, one folder of results.

    python examples/spice.py digits --seed 3 --out runs/spice-3

Stage 1 learns features by contrast, stage 2 trains ten clustering heads on them by prototype
pseudo-labels and keeps the one of the smallest label-free loss, stage 3 trains network and head
together from the labels that their neighbours confirm. The ground truth reaches the table alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from common.head_losses import HeadLossName, LossSettings, head_loss, loss_floor
from common.pipeline import Pipeline, main
from common.presets import DIGITS, FILES, PUBLISHED, Presets, fashion_mnist, paper, spice_code
from common.prototype_task import PrototypeTask
from common.ranges import Ratio, Share
from common.report import Outcome
from common.semi_supervised import Thresholded
from common.settings import RunSettings, ViewName, run_from_command_line

from pseudolabel import FixedThreshold, prototype_labels


@dataclass(frozen=True)
class Settings(RunSettings):
    """What SPICE can be told."""

    prototype_ratio: Ratio = 0.5
    """Share of a cluster that makes its prototype: 0.5 in the published code, 1 in the paper's
    Eq. 2."""
    assignment: Literal["overlap", "greedy", "optimal", "sequential", "nearest"] = "overlap"
    """How prototypes label samples: overlap in the paper; sequential is the exclusive variant of
    the published code (Table VII, non-overlap), the others are fairer ones."""
    loss: HeadLossName = "double-softmax"
    """What heads learn by: double-softmax (Eq. 5), ce and tce (Table VII), or RPSC's scl."""
    loss_details: LossSettings = field(default_factory=LossSettings)
    label_view: ViewName = "weak"
    """The view that labels are read from; weak in the paper, others in its Table VIII (Aug1)."""
    learn_view: ViewName = "strong"
    """The view that heads learn on; strong in the paper, others in its Table VIII (Aug2)."""
    confident_from: Share = 0.95
    """Probability from which a prediction teaches the strong view (eta); 0.95 in FixMatch."""


def run(pipeline: Pipeline[Settings]) -> Outcome:
    """The three stages."""
    settings, embeddings = pipeline.settings, pipeline.represent()
    trained = pipeline.train_heads(
        PrototypeTask(
            pipeline.images,
            embeddings,
            settings.heads,
            num_classes=pipeline.num_classes,
            label=partial(
                prototype_labels,
                prototype_ratio=settings.prototype_ratio,
                assignment=settings.assignment,
            ),
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
    reliable = pipeline.judge(trained.probs.argmax(-1), trained.probs)
    consistency = Thresholded(FixedThreshold(settings.confident_from))
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
    of_paper = paper(Settings(prototype_ratio=1.0), name)
    PRESETS[f"{name}-paper"] = ("as in the paper's text" + FILES, of_paper)
    if published.code_samples is not None:
        PRESETS[f"{name}-code"] = (
            "as in the published code" + FILES,
            spice_code(Settings(), name),
        )

ABLATIONS = {
    "prototypes of M / K samples (Eq. 2)": "--prototype-ratio 1",
    "Table VII, non-overlap": "--assignment sequential",
    "Table VII, non-overlap, greedy": "--assignment greedy",
    "Table VII, non-overlap, optimal": "--assignment optimal",
    "Table VII, Joint-SH": "--heads.encoder joint --heads.heads 1",
    "Table VII, Joint-MH": "--heads.encoder joint",
    "Table VII, entropy": "--heads.entropy 1",
    "Table VII, CE": "--loss ce",
    "Table VII, TCE": "--loss tce",
    "RPSC's Table 5, SPICE-SCL": "--loss scl",
    "Table VIII, weak and weak": "--learn-view weak",
    "Table VIII, strong and weak": "--label-view strong --learn-view weak",
    "Table VIII, strong and strong": "--label-view strong",
    "Fig. 7, all labels": "--reliability.train-on all",
    "published code, fresh start": "--start fresh",
    "published code, reliability": "--reliability.no-strict --reliability.include-self "
    "--reliability.min-confidence 0.99 --reliability.balance",
}
"""Options by what the papers call what they change. Tables IV and VI and Fig. 6 are none of them:
k-means on the features (``--baselines``), linear probes (``--probe``) and the curves
(``--heads.evaluate-every``) are measured beside a run, and change nothing else."""

if __name__ == "__main__":
    run_from_command_line(__doc__, PRESETS, partial(main, run=run))
