"""What SPICE and RPSC have heads do: label a set by prototypes, learn its labels, again and again.

A method is its labelling rule, its loss, and the views that each of them sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from common.augmentation import View
from common.clustering import HeadSettings, Learner, Look
from common.training import drawn_seed, pick, shuffled_batches
from pseudolabel import PseudoLabels, entropy_regularizer, label_confidence

LabelRule = Callable[[Tensor, Tensor], PseudoLabels]
"""From embeddings ``(M, D)`` and probabilities ``(H, M, K)`` to pseudo-labels of every head."""


@dataclass(frozen=True)
class Entries:
    """Labelled samples of every head.

    Attributes:
        labels: int64 ``(H, B)``, -1 for a place that stayed free.
        confidence: ``(H, B)`` in [0, 1], 1 at the prototype and 0 farthest from it.
        sample_ids: int64 ``(H, B)``, which sample it is.
    """

    labels: Tensor
    confidence: Tensor
    sample_ids: Tensor

    def at(self, places: Tensor) -> Entries:
        """Those at some of the places, of every head."""
        parts = (self.labels, self.confidence, self.sample_ids)
        return Entries(*(part[:, places] for part in parts))


HeadLoss = Callable[[Tensor, Entries], Tensor]
"""From logits ``(H, B, K)`` and the entries they belong to, to one loss a head ``(H,)``."""


class PrototypeTask:
    """Prototype pseudo-labels, as a `common.clustering.HeadTask`.

    Args:
        images: uint8 ``(N, C, H, W)``, on any device.
        embeddings: ``(N, D)`` of the frozen encoder: similarities are always measured by it.
        settings: See there.
        num_classes: K.
        label: The method's labelling rule.
        loss: The method's loss.
        floor: What that cannot fall below.
        clean: The view that heads are judged on.
        label_view: The view whose probabilities the rule sees.
        learn_view: The view that the heads learn on.
    """

    def __init__(
        self,
        images: Tensor,
        embeddings: Tensor,
        settings: HeadSettings,
        *,
        num_classes: int,
        label: LabelRule,
        loss: HeadLoss,
        floor: float = 0.0,
        clean: View,
        label_view: View,
        learn_view: View,
    ) -> None:
        self.images, self.embeddings = images, embeddings
        self.clean, self.label_view, self.learn_view = clean, label_view, learn_view
        self.label, self.head_loss = label, loss
        self.samples = min(len(images), settings.samples or len(images))
        self.batch_size, self.entropy = settings.batch_size, settings.entropy
        self.floor = floor - self.entropy * math.log(num_classes)
        self.notes: dict[str, Tensor] = {}
        # Shapes and counts alone decide how many entries the rule gives.
        anything = self.embeddings.new_ones(self.samples, num_classes)
        self.entries = label(self.embeddings[: self.samples], anything).labels.shape[-1]
        self.steps = math.ceil(self.entries / self.batch_size) * settings.repeats

    def batches(self, learner: Learner) -> Iterator[tuple[Look, Entries]]:
        """Labels a random part of the images and goes over its entries."""
        device = self.embeddings.device
        drawn = torch.randperm(len(self.images)).to(device)[: self.samples]
        images = pick(self.images, drawn)
        pseudo = self._label(self.embeddings[drawn], learner.logits(images, self.label_view))
        labelled = torch.zeros(len(pseudo.labels), self.samples, device=device)
        labelled.scatter_(1, pseudo.sample_ids.clamp(min=0), 1.0)
        self.notes = {"labelled": labelled.mean()}
        look = learner.look(images, self.learn_view)
        places = torch.arange(self.entries, device=device)
        for batch in shuffled_batches(places, self.batch_size, self.steps, seed=drawn_seed()):
            yield look, pseudo.at(batch)

    def loss(self, learner: Learner, batch: tuple[Look, Entries]) -> Tensor:
        """The method's loss, and the entropy's if it has a weight."""
        look, entries = batch
        # A free place borrows sample 0; its label of -1 keeps it out of every loss.
        logits = learner.heads(look(entries.sample_ids.clamp(min=0)))
        loss = self.head_loss(logits, entries)
        if self.entropy:
            loss = loss + self.entropy * entropy_regularizer(logits.softmax(-1))
        return loss

    @torch.no_grad()
    def judge(self, learner: Learner) -> Tensor:
        """The method's loss over all clean images, in chunks of one size.

        The value of a contrastive loss depends on how many negatives there are. So all chunks are
        as large as a training batch, in an order that is the same for every head and run.
        """
        logits = learner.logits(self.images, self.clean)
        pseudo = self._label(self.embeddings, logits)
        count = pseudo.labels.shape[-1]
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        chunks = math.ceil(count / self.batch_size)
        wrapped = torch.arange(chunks * self.batch_size) % count
        losses = []
        for places in order[wrapped].to(logits.device).split(self.batch_size):
            entries = pseudo.at(places)
            rows = entries.sample_ids.clamp(min=0).unsqueeze(-1).expand(-1, -1, logits.shape[-1])
            losses.append(self.head_loss(logits.gather(1, rows), entries))
        return torch.stack(losses).mean(0)

    def _label(self, embeddings: Tensor, logits: Tensor) -> Entries:
        pseudo = self.label(embeddings, logits.softmax(-1))
        return Entries(pseudo.labels, label_confidence(pseudo), pseudo.indices)
