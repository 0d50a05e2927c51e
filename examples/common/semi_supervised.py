"""Stage 3, semi-supervised training of the whole network from reliable labels (FixMatch).

A method is its threshold; the loop is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common.augmentation import Views
from common.training import class_balanced_batches, fit, shuffled_batches
from pseudolabel import consistency_loss


@dataclass(frozen=True)
class JointSettings:
    """How network and head are trained together."""

    steps: int = 600
    """Optimiser steps."""
    labelled_batch: int = 64
    """Images with a reliable label a step (L)."""
    unlabelled_batch: int = 256
    """Images of the whole set a step (U)."""
    learning_rate: float = 3e-3
    """AdamW's, falling to 0 along a cosine."""
    weight_decay: float = 0.05
    """AdamW's."""
    average: float = 0.98
    """Decay of the moving average of the weights, which is the network that comes out."""


def train_jointly(
    fabric: Fabric,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    views: Views,
    settings: JointSettings,
    *,
    threshold: nn.Module,
) -> nn.Module:
    """Trains ``network`` in place by SPICE's Eq. 9.

    Args:
        fabric: Device and precision.
        network: From views to logits, on the device.
        images: uint8 ``(N, C, H, W)``, on the device; all of them are also used unlabelled.
        labels: int64 ``(N,)`` reliable pseudo-labels, -1 for none.
        views: Labels are read from and learned on the weak view, consistency on the strong one.
        settings: See there.
        threshold: From probabilities to a `Selection`.

    Returns:
        The moving average of the network, in eval mode.

    Raises:
        ValueError: If no label is reliable.
    """
    if not (labels >= 0).any():
        raise ValueError("labels: expected at least one reliable label, got none")
    everything = torch.arange(len(images), device=images.device)
    average = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True
    )
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )

    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        labelled, unlabelled = batch
        weak = views.weak(images[torch.cat([labelled, unlabelled])])
        strong = views.strong(images[unlabelled])
        # One pass, so that BatchNorm sees the same mixture for every term.
        logits = network(torch.cat([weak, strong]))
        known, guessed, learned = logits.split([len(labelled), len(unlabelled), len(unlabelled)])
        selection = threshold(guessed.detach().float().softmax(-1))
        consistency = consistency_loss(learned, selection.targets, selection.weights)
        return cross_entropy(known, labels[labelled]) + consistency

    network.train()
    fit(
        fabric,
        optimizer,
        zip(
            class_balanced_batches(labels, settings.labelled_batch, settings.steps),
            shuffled_batches(everything, settings.unlabelled_batch, settings.steps),
            strict=True,
        ),
        loss_of,
        steps=settings.steps,
        title="3 joint training",
        after_step=lambda: average.update_parameters(network),
    )
    return average.module.eval()
