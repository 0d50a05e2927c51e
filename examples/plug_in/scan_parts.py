"""What a code base of SCAN's shape brings along: the clusters of its second step, and a loss."""

from __future__ import annotations

import torch
from given import Network, weak
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pseudolabel import entropy_regularizer, nearest_neighbors


class ConfidenceCrossEntropy(nn.Module):
    """Cross-entropy of strong views on confident weak ones, every class weighing the same."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, weak_logits: Tensor, strong_logits: Tensor) -> Tensor:
        """The mean over the samples that pass; 0 if none does."""
        confidence, labels = weak_logits.softmax(1).max(1)
        passed = confidence > self.threshold
        counts = labels[passed].bincount(minlength=weak_logits.shape[1])
        weights = passed / counts[labels].clamp(min=1) / (counts > 0).sum().clamp(min=1)
        return (weights * cross_entropy(strong_logits, labels, reduction="none")).sum()


def mined(images: Tensor) -> Tensor:
    """The 20 nearest neighbours of each image by its pixels, ``(N, 20)``: SCAN's first step."""
    return nearest_neighbors(images.flatten(1), 20).indices


def clustered(images: Tensor, neighbors: Tensor, steps: int = 40) -> Network:
    """A network that gives an image and its neighbours the same cluster: SCAN's second step."""
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        anchors = torch.randperm(len(images))[:512]
        friends = neighbors[anchors, torch.randint(0, 20, (512,))]
        ours, theirs = model(weak(images[torch.cat([anchors, friends])])).softmax(1).chunk(2)
        agreement = (ours * theirs).sum(1).clamp(min=1e-8).log().mean()
        optimizer.zero_grad()
        (5 * entropy_regularizer(ours) - agreement).backward()
        optimizer.step()
    return model
