"""Stage 2, clustering heads on an encoder: the loop that every method's task runs in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from common.augmentation import View, Views
from common.evaluation import History, Snapshot
from common.health import Health
from common.journal import Stage
from common.ranges import Count, Natural, NonNegative, Positive
from common.training import OptimizerName, fit, in_eval_mode, make_optimizer
from pseudolabel import ClusterHeads, select_head

Look = Callable[[Tensor], Tensor]
"""From positions among the images looked at, of any shape, to features ``(*positions, D)``."""


@dataclass(frozen=True)
class HeadSettings:
    """How the clustering heads are trained."""

    heads: Count = 10
    """Heads trained side by side (ten in both papers); they differ by their first weights alone."""
    hidden: Count = 256
    """Width of a head's hidden layer; that of the features in SPICE's paper."""
    norm: Literal["batch"] | None = None
    """Normalisation in a head: none (SPICE), or batch (RPSC, as in BYOL)."""
    rounds: Count = 40
    """How often the samples are viewed and labelled anew; in SPICE's and RPSC's presets, the
    published code's epochs (30 or 100) times the draws that it takes to go over the images."""
    samples: Count | None = None
    """Samples drawn and labelled a round (M): 1,000 to 5,000 in RPSC, 5,000 to 10,000 in SPICE's
    published code; None, or more than there are, for all of them."""
    batch_size: Count = 256
    """Labelled entries a step and head; 128 in SPICE's published code."""
    repeats: Count = 4
    """Passes over the labelled entries a round; 8 in SPICE's published code."""
    optimizer: OptimizerName = "adam"
    """Adam in SPICE's and SCAN's published code."""
    learning_rate: Positive = 5e-3
    """Constant; 0.005 in SPICE's published code."""
    weight_decay: NonNegative = 0.0
    """None in SPICE's published code, 1e-4 in SCAN's."""
    entropy: NonNegative = 0.0
    """Weight of minus the entropy of the mean prediction: none in SPICE but for its Table VII, 5 in
    SCAN."""
    encoder: Literal["frozen", "joint"] = "frozen"
    """Whether the encoder stays as it is or learns with the heads (SPICE's Table VII, Joint-MH, and
    with one head Joint-SH)."""
    keep: Literal["last", "best"] = "last"
    """The head of the smallest label-free loss after the last round (the paper), or after any that
    is evaluated (the published code)."""
    evaluate_every: Natural = 0
    """Rounds between two evaluations of all heads (SPICE's Fig. 6, RPSC's Fig. 3); 0 for the end
    alone."""


class Learner:
    """Heads and the encoder under them, which learns too or stays as it is.

    The features of a frozen encoder are computed once a look, in eval mode, BatchNorm statistics
    untouched, and shared by all heads and repeats. An encoder that learns sees the views anew at
    every step.

    Args:
        fabric: Device and precision.
        encoder: Left alone; one that learns is a copy.
        heads: On the device.
        joint: Whether the encoder learns.
    """

    def __init__(
        self, fabric: Fabric, encoder: nn.Module, heads: ClusterHeads, *, joint: bool
    ) -> None:
        self.fabric = fabric
        self.heads = heads
        self.encoder = copy.deepcopy(encoder).train() if joint else encoder
        self.joint = joint

    @property
    def trained(self) -> nn.Module:
        """What the optimiser trains."""
        return nn.ModuleList([self.heads, self.encoder]) if self.joint else self.heads

    def look(self, images: Tensor, view: View) -> Look:
        """Draws one view of every image; the features follow when a step asks for them."""
        if not self.joint:
            features = in_eval_mode(self.fabric, self.encoder, images, view)
            return lambda positions: features[positions]
        device = self.fabric.device
        views = torch.cat([view(part.to(device)) for part in images.split(1024)])

        def encode(positions: Tensor) -> Tensor:
            unique, inverse = positions.unique(return_inverse=True)
            return self.encoder(views[unique])[inverse]

        return encode

    @torch.no_grad()
    def logits(self, images: Tensor, view: View) -> Tensor:
        """What the heads say of one view of every image: ``(H, N, K)``, nothing trained.

        BatchNorm goes by its running statistics, as predictions do.
        """
        features = in_eval_mode(self.fabric, self.encoder, images, view)
        was_training = self.heads.training
        self.heads.eval()
        logits = self.heads(features)
        self.heads.train(was_training)
        return logits


class HeadTask(Protocol):
    """What a method has heads do: the only part of stage 2 in which methods differ.

    Attributes:
        steps: Optimiser steps a round.
        floor: What the loss cannot fall below.
        notes: Numbers about the last round, for people to read.
    """

    steps: int
    floor: float
    notes: dict[str, Tensor]

    def batches(self, learner: Learner) -> Iterator[Any]:
        """The ``steps`` batches of one round, in whatever form `loss` takes them."""

    def loss(self, learner: Learner, batch: Any) -> Tensor:  # noqa: ANN401 - the task's own form
        """One loss a head, ``(H,)``, of a batch."""

    def judge(self, learner: Learner) -> Tensor:
        """One loss a head, ``(H,)``, by which a head is selected: no ground truth, no gradient."""


class TrainedHead(NamedTuple):
    """The selected head, in eval mode, and how it came to be selected.

    Attributes:
        encoder: The one under it.
        head: From features to logits.
        index: Which of the heads it is.
        history: Every evaluation, the last one after the last round.
        probs: ``(N, K)``, the head's of the clean views.
    """

    encoder: nn.Module
    head: nn.Module
    index: int
    history: list[Snapshot]
    probs: Tensor


class Election:
    """The head that is selected so far, and the evaluations it was selected by.

    Attributes:
        loss: Its label-free loss, or None before the first election.
        index: Which of the heads it is.
        head: Its weights.
        encoder: Those of the encoder under it, if that learns.
        probs: ``(N, K)``, what it says of the clean views.
    """

    def __init__(self) -> None:
        self.history = History()
        self.loss: float | None = None
        self.index = -1
        self.head: dict[str, Tensor] = {}
        self.encoder: dict[str, Tensor] = {}
        self.probs: Tensor | None = None

    def hold(self, learner: Learner, losses: Tensor, logits: Tensor, *, anew: bool) -> None:
        """Elects the head of the smallest of the losses ``(H,)``; logits are ``(H, N, K)``.

        Unless ``anew``, the one elected before stays if its loss was as small.
        """
        index = select_head(losses)
        loss = float(losses[index])
        if not anew and self.loss is not None and self.loss <= loss:
            return
        self.index, self.loss = index, loss
        self.head = _copied(learner.heads.head(self.index))
        self.encoder = _copied(learner.encoder) if learner.joint else {}
        self.probs = logits[self.index].softmax(-1)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {**vars(self), "history": self.history.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes all of it over."""
        self.history.load_state_dict(state["history"])
        vars(self).update({name: x for name, x in state.items() if name != "history"})

    def result(self, learner: Learner) -> TrainedHead:
        """The elected head, rebuilt."""
        head = learner.heads.head(0)
        head.load_state_dict(self.head)
        encoder = learner.encoder
        if learner.joint:
            encoder.load_state_dict(self.encoder)
            encoder.eval()
        probs = self.probs.to(learner.fabric.device)
        return TrainedHead(encoder, head.eval(), self.index, self.history.moments, probs)


def train_heads(
    fabric: Fabric,
    stage: Stage,
    encoder: nn.Module,
    images: Tensor,
    views: Views,
    settings: HeadSettings,
    task: HeadTask,
    *,
    num_classes: int,
) -> TrainedHead:
    """Trains heads by a method's task and selects one by its label-free loss.

    Args:
        fabric: Device and precision.
        stage: Of the run, for its randomness and what is kept of it.
        encoder: From views to features, on the device, with `out_features`.
        images: uint8 ``(N, C, H, W)``, on any device.
        views: The clean one is what heads are evaluated on.
        settings: See there.
        task: The method.
        num_classes: K.

    Returns:
        The selected head.
    """
    heads = ClusterHeads(
        settings.heads,
        encoder.out_features,
        num_classes,
        hidden_features=settings.hidden,
        norm=settings.norm,
    )
    learner = Learner(
        fabric, encoder, fabric.to_device(heads).train(), joint=settings.encoder == "joint"
    )
    election, health = Election(), Health(stage, num_classes)
    # Predictions are counted as heads learn, whatever it is that a task has them learn.
    learner.heads.register_forward_hook(
        lambda heads, _, logits: health.see(logits) if heads.training else None
    )

    def evaluate(after: int) -> None:
        losses, logits = task.judge(learner), learner.logits(images, views.clean)
        election.history.moments.append(Snapshot.of(after, logits, losses))
        if after:
            election.hold(learner, losses, logits, anew=settings.keep == "last")

    def rounds(first: int) -> Iterator[Any]:
        if settings.evaluate_every and first == 0:
            evaluate(0)
        for _ in range(first // task.steps, settings.rounds):
            yield from task.batches(learner)

    def after_step(step: int) -> None:
        after, within = divmod(step, task.steps)
        regular = settings.evaluate_every and after % settings.evaluate_every == 0
        if within == 0:
            health.tell(step, **task.notes)
        if within == 0 and (regular or after == settings.rounds):
            evaluate(after)

    def train() -> dict[str, Any]:
        fit(
            fabric,
            stage,
            {"trained": learner.trained, "election": election},
            make_optimizer(
                settings.optimizer, learner.trained, settings.learning_rate, settings.weight_decay
            ),
            rounds,
            # The heads share no parameter, so that the mean trains each one by its own loss.
            lambda batch: task.loss(learner, batch).mean(),
            steps=settings.rounds * task.steps,
            stride=task.steps,
            schedule="constant",
            floor=task.floor,
            after_step=after_step,
        )
        return election.state_dict()

    election.load_state_dict(stage.once(train))
    return election.result(learner)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
