"""SPICE on scikit-learn's digits: three stages, one table, one folder of results.

    python examples/spice.py --seed 3 --out runs/spice-3

Stage 1 learns features by contrast, stage 2 trains ten clustering heads on them by prototype
pseudo-labels and keeps the one of the smallest label-free loss, stage 3 trains network and head
together from the labels that their neighbours confirm. The ground truth reaches the table alone.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import tyro
from common.augmentation import Views, digit_views
from common.backbones import SmallConvNet
from common.clustering import HeadSettings, train_heads
from common.data import ImageData, load_digits
from common.evaluation import Scoreboard, kmeans, kmeans_on_sphere
from common.report import Outcome, write_outcome
from common.representation import RepresentationSettings, train_representation
from common.run_folder import RunFolder
from common.semi_supervised import JointSettings, train_jointly
from common.training import in_eval_mode
from lightning.fabric import Fabric, seed_everything
from torch import nn

from pseudolabel import (
    FixedThreshold,
    double_softmax_cross_entropy,
    prototype_labels,
    reliable_labels,
    select_head,
)


@dataclass(frozen=True)
class Settings:
    """SPICE on digits."""

    out: Path = Path("runs/spice")
    """Folder of the run; must be new or empty."""
    overwrite: bool = False
    """Replace the files of an earlier run."""
    seed: int = 0
    """The same seed gives the same result on the same CPU."""
    accelerator: str = "auto"
    """Lightning Fabric's: auto (a GPU if there is one), cpu, gpu, mps."""
    threads: int = 1
    """On the CPU. A network this small gains little from more, and loses much if a core is busy."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Lightning Fabric's."""
    width: int = 16
    """Channels of the backbone's first layer."""
    representation: RepresentationSettings = field(default_factory=RepresentationSettings)
    heads: HeadSettings = field(default_factory=HeadSettings)
    prototype_ratio: float = 0.5
    """Share of a cluster that makes its prototype: 0.5 in the published code, 1 in the paper."""
    assignment: Literal["overlap", "greedy", "optimal", "sequential", "nearest"] = "overlap"
    """How prototypes label samples; overlap in the paper."""
    neighbors: int = 20
    """Neighbours asked about a label; 100 in the paper, whose classes are ten times as large."""
    reliable_above: float = 0.95
    """Share of the neighbours that has to be exceeded."""
    confident_from: float = 0.95
    """Probability from which a prediction teaches the strong view (eta)."""
    start: Literal["warm", "fresh"] = "warm"
    """Joint training goes on from stages 1 and 2 (the paper), or anew (the published code)."""
    joint: JointSettings = field(default_factory=JointSettings)


def main(settings: Settings) -> None:
    """Runs the stages, prints the table and writes the folder."""
    torch.set_num_threads(settings.threads)
    folder = RunFolder(settings.out, overwrite=settings.overwrite)
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    data = load_digits()
    board = Scoreboard(data.truth)
    outcome = run(fabric, data._replace(truth=None), digit_views(), settings, board)
    print(outcome.reliable.report(), board, sep="\n\n")
    write_outcome(folder, outcome, board, asdict(settings))
    print(f"\nLabels, metrics, checkpoint and pictures: {folder.path}")


def run(
    fabric: Fabric, data: ImageData, views: Views, settings: Settings, board: Scoreboard
) -> Outcome:
    """The three stages, each scored as it is; ``data`` comes without ground truth."""
    images, seed, classes = fabric.to_device(data.images), settings.seed, data.num_classes
    with board.stage("k-means on the pixels") as result:
        result.clusters = kmeans(data.images.flatten(1).float(), classes, seed=seed)

    with board.stage("1 representation, k-means on its features") as result:
        seed_everything(seed, verbose=False)
        backbone = SmallConvNet(images.shape[1], settings.width)
        backbone = fabric.to_device(backbone).to(memory_format=torch.channels_last)
        encoder = train_representation(
            fabric, backbone, images, views.contrastive, settings.representation
        )
        embeddings = in_eval_mode(fabric, encoder, images, views.clean)
        result.clusters = kmeans_on_sphere(embeddings, classes, seed=seed)

    with board.stage("2 clustering heads") as result:
        seed_everything(seed + 1, verbose=False)
        heads, losses = train_heads(
            fabric,
            encoder,
            images,
            views,
            settings.heads,
            num_classes=classes,
            label=partial(
                prototype_labels,
                prototype_ratio=settings.prototype_ratio,
                assignment=settings.assignment,
            ),
            loss=lambda logits, entries: double_softmax_cross_entropy(logits, entries.labels),
            label_view=views.weak,
        )
        head = heads.head(select_head(losses))
        probs = in_eval_mode(fabric, head, embeddings).softmax(-1)
        result.clusters = probs.argmax(-1)
        reliable = reliable_labels(
            embeddings,
            result.clusters,
            k=settings.neighbors,
            threshold=settings.reliable_above,
            probs=probs,
        )
        result.reliable = reliable.mask

    network = nn.Sequential(encoder, head)
    if not reliable.mask.any():
        print("No label is reliable: stage 3 is left out.")
    else:
        with board.stage(f"3 joint training, {settings.start} start") as result:
            network = joint_start(network, settings)
            threshold = FixedThreshold(settings.confident_from)
            network = train_jointly(
                fabric, network, images, reliable.labels, views, settings.joint, threshold=threshold
            )
            result.clusters = in_eval_mode(fabric, network, images, views.clean).argmax(-1)

    probs = in_eval_mode(fabric, network, images, views.clean).softmax(-1)
    modules = {"encoder": encoder, "head": head, "network": network}
    return Outcome(images, embeddings, reliable, probs, modules)


def joint_start(network: nn.Module, settings: Settings) -> nn.Module:
    """Where stage 3 starts: at a copy of stages 1 and 2, or at fresh weights of the same shape."""
    seed_everything(settings.seed + 2, verbose=False)
    network = copy.deepcopy(network)
    if settings.start == "fresh":
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return network


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings, description=__doc__))
    except (FileExistsError, NotADirectoryError) as error:
        raise SystemExit(f"error: {error}") from None
