"""What SCAN has heads do: give a sample and its neighbours the same prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from common.augmentation import View
from common.clustering import HeadSettings, Learner, Look
from common.training import drawn_seed, shuffled_batches
from pseudolabel import entropy_regularizer, nearest_neighbors


class NeighborTask:
    """SCAN's clustering loss, as a `common.clustering.HeadTask`.

    Minus the log of the dot product of the predictions for a sample and for one of its neighbours,
    drawn at random, and minus the entropy of the mean prediction.

    Args:
        images: uint8 ``(N, C, H, W)``, on any device.
        embeddings: ``(N, D)`` of stage 1, in which the neighbours are found, once.
        settings: See there.
        num_classes: K.
        neighbors: How many of each sample.
        clean: The view that heads are judged on.
        learn_view: The view that heads learn on.
    """

    def __init__(
        self,
        images: Tensor,
        embeddings: Tensor,
        settings: HeadSettings,
        *,
        num_classes: int,
        neighbors: int,
        clean: View,
        learn_view: View,
    ) -> None:
        self.images, self.clean, self.learn_view = images, clean, learn_view
        self.neighbors = nearest_neighbors(embeddings, neighbors).indices
        self.batch_size, self.entropy = settings.batch_size, settings.entropy
        self.floor = -self.entropy * math.log(num_classes)
        self.notes: dict[str, Tensor] = {}
        self.steps = math.ceil(len(images) / self.batch_size) * settings.repeats

    def batches(self, learner: Learner) -> Iterator[tuple[Look, Tensor]]:
        """Samples, and then a neighbour of each, at one view of every image."""
        look = learner.look(self.images, self.learn_view)
        count, width = self.neighbors.shape
        everything = torch.arange(count, device=self.neighbors.device)
        for anchors in shuffled_batches(everything, self.batch_size, self.steps, seed=drawn_seed()):
            drawn = torch.randint(width, (self.batch_size,)).to(anchors.device)
            yield look, torch.cat([anchors, self.neighbors[anchors, drawn]])

    def loss(self, learner: Learner, batch: tuple[Look, Tensor]) -> Tensor:
        """Consistency and entropy of every head."""
        look, positions = batch
        anchors, neighbors = learner.heads(look(positions)).chunk(2, dim=1)
        consistency = -_log_agreement(anchors, neighbors).mean(-1)
        return consistency + self.entropy * entropy_regularizer(anchors.softmax(-1))

    @torch.no_grad()
    def judge(self, learner: Learner) -> Tensor:
        """The same over all clean images and all their neighbours."""
        logits = learner.logits(self.images, self.clean)
        parts = []
        for rows, chunk in zip(self.neighbors.split(1024), logits.split(1024, dim=1), strict=True):
            parts.append(_log_agreement(chunk.unsqueeze(2), logits[:, rows]).mean(-1))
        consistency = -torch.cat(parts, dim=1).mean(-1)
        return consistency + self.entropy * entropy_regularizer(logits.softmax(-1))


def _log_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Log of the dot product of two predictions, without the underflow of a product."""
    return (log_softmax(first, -1) + log_softmax(second, -1)).logsumexp(-1)
