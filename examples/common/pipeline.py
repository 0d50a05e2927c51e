"""The stages that every method shares, on one data set, each scored as it ends.

A method is a function from a `Pipeline` to an `Outcome`; see the programs beside this package.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields
from typing import Generic, TypeVar

import torch
from lightning.fabric import Fabric, seed_everything
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from common.augmentation import View, views_for
from common.clustering import HeadTask, TrainedHead, train_heads
from common.data import ImageData, load
from common.evaluation import Scoreboard, StageResult, kmeans, kmeans_on_sphere
from common.journal import Journal, Stage
from common.network import Architecture, Encoder, load_part
from common.ranges import check_ranges
from common.ranks import fabric_for, rank, wait_for_all
from common.report import Outcome, write_outcome
from common.representation import train_representation
from common.resuming import identity, open_folder
from common.run_folder import RunFolder, is_finished
from common.semi_supervised import Thresholded, train_jointly
from common.settings import BackboneSettings, DataSettings, RunSettings, ViewName
from common.training import in_eval_mode
from pseudolabel import Neighbors, ReliableLabels, nearest_neighbors, reliable_labels

SettingsType = TypeVar("SettingsType", bound=RunSettings)


class Pipeline(Generic[SettingsType]):
    """Data, device and scores of a run, and its stages.

    Args:
        settings: Of the method.
        data: Without ground truth.
        board: With it, if there is any; stages only hand over to it.
        fabric: Device, precision and ranks.

    Attributes:
        journal: What an interrupted run goes on from; None keeps nothing.
        log: TensorBoard's, or None.
        images: uint8 ``(N, C, H, W)``.
        encoder: From views to features, after stage 1.
        embeddings: Its features ``(N, D)`` of the clean views.
        neighbors: Among them, once labels have been judged.
    """

    encoder: Encoder
    embeddings: Tensor
    neighbors: Neighbors

    def __init__(
        self,
        settings: SettingsType,
        data: ImageData,
        board: Scoreboard,
        fabric: Fabric,
    ) -> None:
        self.settings, self.board, self.data = settings, board, data
        self.fabric = fabric
        self.journal: Journal | None = None
        self.log: SummaryWriter | None = None
        self.images = self._placed(data.images)
        self.held_out = None if data.held_out is None else self._placed(data.held_out.images)
        channels, size = self.images.shape[1:3]
        self.views = views_for(data.name, size=size, channels=channels)
        self.num_classes = data.num_classes
        self._architecture = self.architecture(settings.backbone)
        # Now, for what is wrong with it has to show before anything is replaced or computed.
        self._taken_over = None if settings.encoder_from is None else self._encoder_of_a_run()

    def view(self, name: ViewName) -> View:
        """One of the views by its name."""
        return getattr(self.views, name)

    def architecture(self, backbone: BackboneSettings) -> Architecture:
        """Of a network on some backbone; a projection belongs to stage 1's alone."""
        mine = backbone == self.settings.backbone
        projects = mine and self.settings.representation.features == "projection"
        return Architecture(
            backbone=backbone.name,
            width=backbone.width,
            in_channels=self.images.shape[1],
            projection=self.settings.representation.projection if projects else None,
            hidden=self.settings.heads.hidden,
            norm=self.settings.heads.norm,
            num_classes=self.num_classes,
        )

    def represent(self) -> Tensor:
        """Stage 1, with k-means on the pixels and on the features for comparison.

        Returns:
            The embeddings ``(N, D)`` of the clean views.
        """
        settings = self.settings
        if settings.baselines:
            with self._stage("k-means on the pixels") as (result, stage):
                result.clusters = self._once(stage, kmeans, self.images.flatten(1).float())
        with self._stage("1 representation, k-means on its features") as (result, stage):
            if self._taken_over is not None:
                self.encoder = self._taken_over
            else:
                backbone = self._on_device(self._architecture.build_backbone())
                images, more = self.images, self.data.unlabelled
                if more is not None:
                    images = torch.cat([images, more.to(images.device)])
                self.encoder = train_representation(
                    self.fabric,
                    stage,
                    backbone,
                    images,
                    self.views.contrastive,
                    settings.representation,
                    compiled=settings.compile,
                )
            if self.journal is not None:
                self.journal.leave({"encoder": self.encoder})
            self.embeddings = in_eval_mode(self.fabric, self.encoder, self.images, self.views.clean)
            if settings.baselines:
                means = Stage("k-means on the features", settings.seed, self.journal)
                result.clusters = self._once(means, kmeans_on_sphere, self.embeddings)
            result.features = self._probed(self.encoder)
        return self.embeddings

    def train_heads(self, task: HeadTask) -> TrainedHead:
        """Stage 2 by a method's task."""
        with self._stage("2 clustering heads", 1) as (result, stage):
            trained = train_heads(
                self.fabric,
                stage,
                self.encoder,
                self.images,
                self.views,
                self.settings.heads,
                task,
                num_classes=self.num_classes,
            )
            network = nn.Sequential(trained.encoder, trained.head)
            result.clusters = trained.probs.argmax(-1)
            result.held_out = self._predict_held_out(network)
            result.history = trained.history
        return trained

    def judge(self, labels: Tensor, probs: Tensor) -> ReliableLabels:
        """Which labels ``(N,)`` their neighbours in the embedding space confirm."""
        settings = self.settings.reliability
        with self._stage("  their reliable labels") as (result, stage):
            self.neighbors = nearest_neighbors(
                self.embeddings, settings.neighbors, include_self=settings.include_self
            )
            reliable = reliable_labels(
                self.embeddings,
                labels,
                threshold=settings.above,
                strict=settings.strict,
                neighbors=self.neighbors,
                probs=probs,
                min_confidence=settings.min_confidence,
                balance=settings.balance,
                generator=torch.Generator(labels.device).manual_seed(self.settings.seed),
            )
            result.clusters, result.reliable = labels, reliable.mask
            stage.tell(0, reliable=reliable.mask.double().mean())
        return reliable

    def train_jointly(
        self, trained: TrainedHead, reliable: ReliableLabels, consistency: Thresholded
    ) -> nn.Module:
        """Stage 3 from reliable labels, or without a single one what stage 2 has left."""
        settings = self.settings
        network = nn.Sequential(trained.encoder, trained.head)
        if not reliable.mask.any():
            print("No label is reliable: stage 3 is left out.")
            return network
        labels = reliable.labels if settings.reliability.train_on == "reliable" else reliable.given
        name = f"3 joint training, {settings.start} start"
        start, strong = self._joint_start(network), self.views.joint_strong
        return self.refine(start, labels, consistency, strong, name)

    def refine(
        self,
        network: nn.Module,
        labels: Tensor | None,
        consistency: Thresholded,
        strong: View,
        name: str,
    ) -> nn.Module:
        """Trains a copy of a network further, with labels or without."""
        with self._stage(name, 3) as (result, stage):
            trained = train_jointly(
                self.fabric,
                stage,
                copy.deepcopy(network),
                self.images,
                labels,
                self.views._replace(strong=strong),
                self.settings.joint,
                consistency=self.fabric.to_device(consistency),
                num_classes=self.num_classes,
                compiled=self.settings.compile,
            )
            result.clusters = trained.history[-1].clusters[0].long()
            result.held_out = self._predict_held_out(trained.network)
            result.features = self._probed(trained.network[0])
            result.history = trained.history
        return trained.network

    def predict(self, network: nn.Module) -> Tensor:
        """Probabilities ``(N, K)`` of the clean views."""
        return self._predict(network, self.images)

    def outcome(
        self, trained: TrainedHead, reliable: ReliableLabels, network: nn.Module
    ) -> Outcome:
        """What the run found, to be written."""
        return Outcome(
            images=self.images,
            embeddings=self.embeddings,
            trained=trained,
            reliable=reliable,
            neighbors=self.neighbors,
            probs=self.predict(network),
            held_out=None if self.held_out is None else self._predict(network, self.held_out),
            modules={"encoder": self.encoder, "head": trained.head, "network": network},
            architecture=self._architecture,
            clean=self.views.clean,
        )

    def _encoder_of_a_run(self) -> Encoder:
        """The one that stage 1 of another run has left, or its joint training."""
        backbone = self._architecture.build_backbone()
        encoder = self._on_device(Encoder(backbone, self._architecture.projection))
        part = "encoder" if self.settings.encoder_after == 1 else "network.0"
        load_part(encoder, self.settings.encoder_from, part)
        return encoder

    def _joint_start(self, network: nn.Module) -> nn.Module:
        """Where stage 3 starts: where stages 1 and 2 have ended, or at fresh weights."""
        settings = self.settings
        seed_everything(settings.seed + 2, verbose=False)
        if settings.start == "warm":
            return network
        if settings.joint_backbone is not None:
            self._architecture = self.architecture(BackboneSettings(settings.joint_backbone))
        return self._on_device(self._architecture.build())

    @contextmanager
    def _stage(self, title: str, number: int = 0) -> Iterator[tuple[StageResult, Stage]]:
        """A stage with a seed of its own, to be scored as it ends."""
        with self.board.stage(title) as result:
            seed_everything(self.settings.seed + number, verbose=False)
            yield result, Stage(title, self.settings.seed + number, self.journal, self.log)

    def _once(self, stage: Stage, cluster: Callable[..., Tensor], features: Tensor) -> Tensor:
        seed = self.settings.seed
        return stage.once(lambda: cluster(features, self.num_classes, seed=seed))

    def _on_device(self, module: nn.Module) -> nn.Module:
        return self.fabric.to_device(module).to(memory_format=torch.channels_last)

    def _placed(self, images: Tensor) -> Tensor:
        return self.fabric.to_device(images) if self.settings.data.on_device else images

    def _predict(self, network: nn.Module, images: Tensor) -> Tensor:
        return in_eval_mode(self.fabric, network, images, self.views.clean).softmax(-1)

    def _predict_held_out(self, network: nn.Module) -> Tensor | None:
        return None if self.held_out is None else self._predict(network, self.held_out).argmax(-1)

    def _probed(self, encoder: Encoder) -> Tensor | None:
        if not self.settings.probe:
            return None
        return in_eval_mode(self.fabric, encoder.backbone, self.images, self.views.clean)


def main(settings: SettingsType, run: Callable[[Pipeline[SettingsType]], Outcome]) -> None:
    """Loads the data, runs a method, prints the table and writes the folder."""
    check_ranges(settings)
    torch.set_num_threads(settings.threads)
    torch.set_default_dtype(torch.float64 if settings.precision == "64-true" else torch.float32)
    fabric = fabric_for(settings.accelerator, settings.precision)
    data = _loaded(settings.data)
    settings.check(len(data.images), data.num_classes)
    board = Scoreboard(data.truth, data.held_out and data.held_out.truth)
    this_run = identity(settings, data)
    if not (settings.resume and is_finished(settings.out)):
        pipeline = Pipeline(settings, data.without_truth(), board, fabric)
    if rank() == 0:
        open_folder(settings, this_run)
        shape = " x ".join(map(str, data.images.shape[1:]))
        print(f"{data.name}: {len(data.images):,} images of {shape}, {data.num_classes} clusters")
    wait_for_all()
    folder = RunFolder(settings.out, existing="keep")
    if is_finished(folder.path):
        if rank() == 0:
            folder.remove_checkpoints()
            print(f"{folder.path}: the run is finished, nothing is left to do.")
            if settings.pictures and not (folder.path / "prototypes.png").exists():
                print("It was not asked for pictures, which are drawn as a run ends.")
        return
    pipeline.journal = Journal(folder, this_run, every=settings.checkpoint_every)
    with SummaryWriter(folder.path / "tensorboard") if rank() == 0 else nullcontext() as log:
        pipeline.log = log
        outcome = run(pipeline)
    if rank() == 0:
        print(outcome.reliable.report(), board, sep="\n\n")
        held_out_files = () if data.held_out is None else data.held_out.files
        names = data.class_names
        write_outcome(folder, outcome, board, settings, data.files, names, held_out_files)
        folder.remove_checkpoints()
        print(f"\nLabels, metrics, checkpoint and pictures: {folder.path}; see report.html")


def _loaded(settings: DataSettings) -> ImageData:
    """The images; what is wrong with an argument is said of the option."""
    chosen = asdict(settings)
    chosen.pop("on_device")
    try:
        return load(chosen.pop("name"), **chosen)
    except ValueError as error:
        argument, colon, what = str(error).partition(":")
        if argument not in {field.name for field in fields(settings)}:
            raise
        raise ValueError(f"--data.{argument.replace('_', '-')}{colon}{what}") from None
