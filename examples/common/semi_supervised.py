"""Stage 3, training of the whole network from labels and from its own predictions (FixMatch).

A method is what it makes of the predictions; the loop is the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common.augmentation import Views
from common.evaluation import History, Snapshot
from common.health import Health
from common.journal import Stage
from common.ranges import Count, Decay, Natural, NonNegative, Positive
from common.training import (
    OptimizerName,
    Schedule,
    class_balanced_batches,
    fit,
    in_eval_mode,
    make_optimizer,
    pick,
    shuffled_batches,
    wide,
)
from pseudolabel import consistency_loss


@dataclass(frozen=True)
class JointSettings:
    """How network and head are trained together."""

    steps: Count = 600
    """Optimiser steps; 2^20 in FixMatch and in SPICE's published code."""
    labelled_batch: Count = 64
    """Images with a reliable label a step (L); 64 in FixMatch."""
    unlabelled_batch: Count = 256
    """Images of the whole set a step (U); 448 in FixMatch."""
    optimizer: OptimizerName = "adamw"
    """SGD with Nesterov momentum in FixMatch."""
    learning_rate: Positive = 3e-3
    """At the start; 0.03 (SGD) in FixMatch."""
    weight_decay: NonNegative = 0.05
    """Of all but normalisation layers; 5e-4 (SGD) in FixMatch."""
    schedule: Schedule = "cosine"
    """Of the learning rate: to 0 along a cosine, or as in FixMatch along 7/16 of one."""
    average: Decay = 0.98
    """Decay of the moving average of the weights, which is the network that comes out; 0.999 in
    FixMatch, 0 for the network itself."""
    evaluate_every: Natural = 0
    """Steps between two evaluations (RPSC's Fig. 4); 0 for the end alone."""


class TrainedNetwork(NamedTuple):
    """The moving average of the network, in eval mode.

    Attributes:
        network: From views to logits.
        history: Every evaluation, the last one after the last step.
    """

    network: nn.Module
    history: list[Snapshot]


class Thresholded(nn.Module):
    """Cross-entropy to the predictions that pass a threshold: SPICE Eq. 9, RPSC Eq. 8.

    A method with another loss extends it.

    Args:
        threshold: From probabilities to a `pseudolabel.Selection`.

    Attributes:
        selected: Share of the last batch that passed.
    """

    selected: Tensor

    def __init__(self, threshold: nn.Module) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, probs: Tensor, logits: Tensor) -> Tensor:
        """The scalar loss of logits of the strong view against probabilities of the weak one.

        Args:
            probs: ``(B, K)``, constants.
            logits: ``(B, K)``.
        """
        selection = self.threshold(probs)
        self.selected = selection.weights.mean()
        return consistency_loss(logits, selection.targets, selection.weights)


def train_jointly(
    fabric: Fabric,
    stage: Stage,
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    views: Views,
    settings: JointSettings,
    *,
    consistency: Thresholded,
    num_classes: int,
    compiled: bool = False,
) -> TrainedNetwork:
    """Trains ``network`` in place by SPICE's Eq. 9.

    Args:
        fabric: Device and precision.
        stage: Of the run, for its randomness and what is kept of it.
        network: From views to logits, on the device.
        images: uint8 ``(N, C, H, W)``, on any device; all of them are also used unlabelled.
        labels: int64 ``(N,)`` reliable pseudo-labels, -1 for none; None if the method has none.
        views: Labels are read from and learned on the weak view, consistency on the strong one.
        settings: See there.
        consistency: The method.
        num_classes: K.
        compiled: Whether the network goes through `torch.compile`.

    Returns:
        The trained network.

    Raises:
        ValueError: If there are labels, but none is reliable.
    """
    if labels is not None and not (labels >= 0).any():
        raise ValueError("labels: expected at least one reliable label, got none")
    everything = torch.arange(len(images), device=fabric.device)
    average = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True
    )
    if compiled:
        network.compile()
    known = settings.labelled_batch if labels is not None else 0
    sizes = [known, settings.unlabelled_batch, settings.unlabelled_batch]
    history, health = History(), Health(stage, num_classes)
    round_of_images = max(1, len(images) // settings.unlabelled_batch)

    def batches(first: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        unlabelled_batches = shuffled_batches(
            everything, sizes[1], settings.steps, seed=stage.seed, first=first
        )
        if labels is None:
            for unlabelled in unlabelled_batches:
                part = pick(images, unlabelled)
                yield torch.cat([views.weak(part), views.strong(part)]), None
            return
        labelled_batches = class_balanced_batches(labels, known, settings.steps - first)
        for labelled, unlabelled in zip(labelled_batches, unlabelled_batches, strict=True):
            part = pick(images, torch.cat([labelled, unlabelled]))
            seen = [views.weak(part), views.strong(part[known:])]
            yield torch.cat(seen), labels[labelled]

    def loss_of(batch: tuple[Tensor, Tensor | None]) -> Tensor:
        seen, targets = batch
        # One pass, so that BatchNorm sees the same mixture for every term.
        known, guessed, learned = network(seen).split(sizes)
        health.see(guessed)
        loss = consistency(wide(guessed.detach()).softmax(-1), learned)
        return loss if targets is None else loss + cross_entropy(known, targets)

    def after_step(step: int) -> None:
        average.update_parameters(network)
        if step % round_of_images == 0 or step == settings.steps:
            health.tell(step, selected=consistency.selected)
        regular = settings.evaluate_every and step % settings.evaluate_every == 0
        if regular or step == settings.steps:
            logits = in_eval_mode(fabric, average.module, images, views.clean)
            history.moments.append(Snapshot.of(step, logits.unsqueeze(0), None))

    def train() -> dict[str, Any]:
        network.train()
        fit(
            fabric,
            stage,
            {
                "network": network,
                "average": average,
                "consistency": consistency,
                "history": history,
            },
            make_optimizer(
                settings.optimizer,
                network,
                settings.learning_rate,
                settings.weight_decay,
                spare_norms=True,
            ),
            batches,
            loss_of,
            steps=settings.steps,
            images=sum(sizes),
            schedule=settings.schedule,
            after_step=after_step,
        )
        return {"average": average.state_dict(), "history": history.state_dict()}

    done = stage.once(train)
    average.load_state_dict(done["average"])
    history.load_state_dict(done["history"])
    return TrainedNetwork(average.module.eval(), history.moments)
