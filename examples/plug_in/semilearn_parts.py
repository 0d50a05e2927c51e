"""What a code base of semilearn's shape brings along: hooks, and an algorithm that calls them."""

from __future__ import annotations

from typing import Any

import torch
from given import Network, predict, strong, weak
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Hook:
    """What an algorithm does at one of its places."""


class FixedThresholdingHook(Hook):
    """Keeps predictions of a confidence at or above a cut."""

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff

    def masking(self, algorithm: AlgorithmBase, probs: Tensor) -> Tensor:
        """1 for what is kept, else 0, ``(B,)``."""
        return (probs.amax(1) >= self.cutoff).to(probs.dtype)


class PseudoLabelingHook(Hook):
    """Labels by the most probable class."""

    def label(self, algorithm: AlgorithmBase, probs: Tensor) -> Tensor:
        """Classes ``(B,)``."""
        return probs.argmax(1)


class AlgorithmBase:
    """The loop over labelled and unlabelled batches; an algorithm adds hooks and a step."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.model = Network(num_classes)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 3e-3)
        self.hooks: dict[str, Any] = {}
        self.kept: list[float] = []
        self.set_hooks()

    def register_hook(self, hook: Hook, name: str) -> None:
        """Makes a hook known by a name."""
        self.hooks[name] = hook

    def call_hook(self, place: str, name: str, *args: Tensor) -> Tensor:
        """What a hook says at a place."""
        said: Tensor = getattr(self.hooks[name], place)(self, *args)
        return said

    def set_hooks(self) -> None:
        """An algorithm registers its hooks here."""
        raise NotImplementedError

    def train_step(self, x_lb: Tensor, y_lb: Tensor, x_ulb_w: Tensor, x_ulb_s: Tensor) -> Tensor:
        """The loss of a step, by the algorithm."""
        raise NotImplementedError

    def train(self, x_lb: Tensor, y_lb: Tensor, x_ulb: Tensor, steps: int) -> nn.Module:
        """Trains on all labelled images and 128 unlabelled ones a step."""
        for _ in range(steps):
            batch = x_ulb[torch.randint(len(x_ulb), (128,))]
            loss = self.train_step(weak(x_lb), y_lb, weak(batch), strong(batch))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return self.model


def consistency_of(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of what is kept, over the whole batch."""
    return (cross_entropy(logits, labels, reduction="none") * mask).mean()


def split(
    images: Tensor, truth: Tensor, labelled: int
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Some labelled images of every class, the rest without labels, and a fifth held out."""
    order = torch.randperm(len(images))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    known = torch.cat([train[truth[train] == c][:labelled] for c in range(10)])
    return (images[known], truth[known], images[train]), (images[test], truth[test])


def accuracy(model: nn.Module, images: Tensor, truth: Tensor) -> float:
    """The share of right predictions."""
    return (predict(model, images).argmax(1) == truth).double().mean().item()
