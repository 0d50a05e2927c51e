"""Stage 1, contrastive representation learning with a momentum encoder (MoCo v2)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from common.augmentation import View
from common.journal import Stage
from common.network import Encoder
from common.ranges import Count, NonNegative, Positive, Range, Share
from common.training import OptimizerName, fit, make_optimizer, pick, shuffled_batches


@dataclass(frozen=True)
class RepresentationSettings:
    """How the features are learned."""

    epochs: Count = 80
    """Passes over the images; 1000 in the published code (STL-10, CIFAR)."""
    batch_size: Annotated[int, Range(2)] = 256
    """Positive pairs a step; 128 in the published code."""
    queue: Count = 256
    """Keys kept as negatives; 12800 for CIFAR-10 in the published code. Small beside the data set:
    a tenth of them are of the anchor's own class, and in a queue that holds most of the images also
    the anchor itself."""
    key_momentum: Share = 0.999
    """How much of the key encoder stays at a step; MoCo's."""
    temperature: Positive = 0.1
    """Divides the similarities; 0.2 in the published code."""
    projection: Count = 64
    """Width of the space in which pairs are compared; 128 in MoCo v2."""
    optimizer: OptimizerName = "adam"
    """SGD in the published code."""
    learning_rate: Positive = 1e-3
    """Falling to 0 along a cosine; 0.015 (SGD) in the published code."""
    weight_decay: NonNegative = 1e-5
    """1e-4 (SGD) in the published code."""
    features: Literal["projection", "backbone"] = "projection"
    """What the later stages see: where pairs are compared, or what comes before it (the paper)."""


class MomentumContrast(nn.Module):
    """A query encoder, a key encoder that follows it, and a queue of keys.

    Args:
        backbone: The encoder to train, with `out_features`; the module trains this very object.
        settings: Widths, temperature and momentum.
    """

    def __init__(self, backbone: nn.Module, settings: RepresentationSettings) -> None:
        super().__init__()
        self.query = Encoder(backbone, settings.projection)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.temperature = settings.temperature
        self.key_momentum = settings.key_momentum
        queue = normalize(torch.randn(settings.queue, settings.projection), dim=1)
        self.register_buffer("queue", queue)
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """InfoNCE loss of two views ``(B, C, H, W)`` of the same images; then queues the keys."""
        queries = normalize(self.query(first), dim=1)
        with torch.no_grad():
            keys = normalize(self.key(second), dim=1)
        positive = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ self.queue.T], dim=1) / self.temperature
        self.enqueue(keys)
        return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64).to(logits.device))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Puts keys ``(B, projection)`` in the places of the oldest; of too many, the last stay."""
        kept = keys[-len(self.queue) :]
        steps = torch.arange(len(kept), device=keys.device)
        # A copy, for the loss still needs the queue that it saw.
        self.queue = self.queue.clone()
        self.queue[(self.position + steps) % len(self.queue)] = kept.to(self.queue.dtype)
        self.position = (self.position + len(kept)) % len(self.queue)

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the key encoder a little towards the query encoder."""
        for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
            key.lerp_(query, 1 - self.key_momentum)


def train_representation(
    fabric: Fabric,
    stage: Stage,
    backbone: nn.Module,
    images: Tensor,
    view: View,
    settings: RepresentationSettings,
    *,
    compiled: bool = False,
) -> Encoder:
    """Trains ``backbone`` in place, on nothing but images.

    Args:
        fabric: Device and precision.
        stage: Of the run, for its randomness and what is kept of it.
        backbone: With `out_features`, on the device.
        images: uint8 ``(N, C, H, W)``, on any device.
        view: Drawn twice for a positive pair.
        settings: See there.
        compiled: Whether the encoders go through `torch.compile`.

    Returns:
        The encoder, from views to features: the backbone, with or without its projection.
    """
    model = fabric.to_device(MomentumContrast(backbone, settings)).train()
    if compiled:
        model.query.compile()
        model.key.compile()
    steps = settings.epochs * max(1, len(images) // settings.batch_size)
    everything = torch.arange(len(images), device=fabric.device)

    def pairs(first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in shuffled_batches(
            everything, settings.batch_size, steps, seed=stage.seed, first=first
        ):
            part = pick(images, batch)
            yield view(part), view(part)

    def train() -> dict[str, Any]:
        fit(
            fabric,
            stage,
            {"model": model},
            make_optimizer(
                settings.optimizer, model.query, settings.learning_rate, settings.weight_decay
            ),
            pairs,
            lambda pair: model(*pair),
            steps=steps,
            images=2 * settings.batch_size,
            after_step=lambda _: model.follow(),
        )
        return model.query.state_dict()

    model.query.load_state_dict(stage.once(train))
    return model.query if settings.features == "projection" else Encoder(backbone, None)
