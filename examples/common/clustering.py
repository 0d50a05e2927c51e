"""Stage 2, clustering heads on a frozen encoder: label a set, learn its labels, again and again.

A method is its labelling rule and its loss; the loop is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from common.augmentation import View, Views
from common.training import fit, in_eval_mode, shuffled_batches
from pseudolabel import ClusterHeads, PseudoLabels, label_confidence

LabelRule = Callable[[Tensor, Tensor], PseudoLabels]
"""From embeddings ``(M, D)`` and probabilities ``(H, M, K)`` to pseudo-labels of every head."""


class Entries(NamedTuple):
    """Labelled samples of every head.

    Attributes:
        features: ``(H, B, D)`` of the view that the heads learn on.
        labels: int64 ``(H, B)``, -1 for a place that stayed free.
        confidence: ``(H, B)`` in [0, 1], RPSC's.
        sample_ids: int64 ``(H, B)``, which sample it is.
    """

    features: Tensor
    labels: Tensor
    confidence: Tensor
    sample_ids: Tensor


HeadLoss = Callable[[Tensor, Entries], Tensor]
"""From logits ``(H, B, K)`` and what they belong to, to one loss a head ``(H,)``."""


class TrainedHeads(NamedTuple):
    """Heads, in eval mode, and what they are chosen by.

    Attributes:
        heads: All of them.
        losses: ``(H,)``, for which no ground truth is needed; see `pseudolabel.select_head`.
    """

    heads: ClusterHeads
    losses: Tensor


@dataclass(frozen=True)
class HeadSettings:
    """How the clustering heads are trained."""

    heads: int = 10
    """Heads trained side by side; they differ by their initial weights alone."""
    hidden: int = 256
    """Width of a head's hidden layer."""
    norm: Literal["batch"] | None = None
    """Normalisation in a head: none (SPICE), or batch (RPSC)."""
    rounds: int = 40
    """How often the samples are labelled anew."""
    samples: int | None = None
    """Samples drawn and labelled a round; None for all of them."""
    batch_size: int = 256
    """Labelled entries a step and head."""
    repeats: int = 4
    """Passes over the labelled entries a round."""
    learning_rate: float = 5e-3
    """Adam's, constant."""


def train_heads(
    fabric: Fabric,
    encoder: nn.Module,
    images: Tensor,
    views: Views,
    settings: HeadSettings,
    *,
    num_classes: int,
    label: LabelRule,
    loss: HeadLoss,
    label_view: View,
) -> TrainedHeads:
    """Trains heads; the encoder stays as it is, its BatchNorm statistics included.

    The features of each view are computed once a round and shared by all heads and repeats.

    Args:
        fabric: Device and precision.
        encoder: From views to features, on the device.
        images: uint8 ``(N, C, H, W)``, on the device.
        views: The clean view gives the embeddings, the strong one what the heads learn on.
        settings: See there.
        num_classes: K.
        label: The method's labelling rule.
        loss: The method's loss.
        label_view: The view whose probabilities the rule sees.

    Returns:
        The heads, and each one's loss over all clean images.

    Raises:
        ValueError: If more samples are to be drawn than there are.
    """
    embeddings = in_eval_mode(fabric, encoder, images, views.clean)
    heads = ClusterHeads(
        settings.heads,
        embeddings.shape[1],
        num_classes,
        hidden_features=settings.hidden,
        norm=settings.norm,
    )
    heads = fabric.to_device(heads).train()
    samples = len(images) if settings.samples is None else settings.samples
    if not 1 <= samples <= len(images):
        raise ValueError(f"samples: expected 1 to {len(images)} of the images, got {samples}")
    # Shapes and counts alone decide how many entries the rule gives.
    count = _label(heads, embeddings[:samples], embeddings[:samples], label).labels.shape[-1]
    steps = math.ceil(count / settings.batch_size) * settings.repeats

    def batches() -> Iterator[Entries]:
        for _ in range(settings.rounds):
            drawn = torch.randperm(len(images)).to(images.device)[:samples]
            seen = in_eval_mode(fabric, encoder, images[drawn], label_view)
            pseudo = _label(heads, embeddings[drawn], seen, label)
            learned = in_eval_mode(fabric, encoder, images[drawn], views.strong)
            places = torch.arange(count, device=images.device)
            for batch in shuffled_batches(places, settings.batch_size, steps):
                yield _entries(pseudo, learned, batch)

    fit(
        fabric,
        torch.optim.Adam(heads.parameters(), settings.learning_rate),
        batches(),
        # The heads share no parameter, so that the mean trains each one by its own loss.
        lambda entries: loss(heads(entries.features), entries).mean(),
        steps=settings.rounds * steps,
        title="2 clustering heads",
        decay=False,
    )
    entries = _entries(_label(heads, embeddings, embeddings, label), embeddings, slice(None))
    heads.eval()
    with torch.no_grad():
        return TrainedHeads(heads, loss(heads(entries.features), entries))


@torch.no_grad()
def _label(heads: ClusterHeads, embeddings: Tensor, seen: Tensor, label: LabelRule) -> PseudoLabels:
    """Labels by probabilities that normalise with running statistics, as predictions do."""
    heads.eval()
    probs = heads(seen).softmax(-1)
    heads.train()
    return label(embeddings, probs)


def _entries(pseudo: PseudoLabels, features: Tensor, batch: Tensor | slice) -> Entries:
    sample_ids = pseudo.indices[:, batch]
    # A free place borrows sample 0; its label of -1 keeps it out of every loss.
    learned = features[sample_ids.clamp(min=0)]
    confidence = label_confidence(pseudo)[:, batch]
    return Entries(learned, pseudo.labels[:, batch], confidence, sample_ids)
