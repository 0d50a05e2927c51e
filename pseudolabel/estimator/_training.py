"""How the estimator trains its heads: label some samples, learn their labels, again and again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor
from torch.nn.functional import normalize

from pseudolabel.heads import ClusterHeads
from pseudolabel.losses import double_softmax_cross_entropy, soft_contrastive_loss
from pseudolabel.prototypes import label_confidence, prototype_labels
from pseudolabel.prototypes.assignment import Assignment
from pseudolabel.types import PseudoLabels

_LEAST_PASSES = 2  # over the labelled entries of a round
_LEAST_STEPS = 30  # a round on few samples still moves the heads
_FIRST_ROUND = 5  # times as long: the heads start at random and must reach the seeds
_SEED_SHARPNESS = 20.0


class Settings(NamedTuple):
    """The estimator's options, checked and filled in; see `PrototypeClustering`."""

    clusters: int
    heads: int
    hidden: int
    prior: list[float] | None
    loss: str
    assignment: Assignment
    prototype_ratio: float
    label_ratio: float
    learning_rate: float
    batch_size: int
    samples: int
    rounds: int
    tol: float
    patience: int | None


class Trained(NamedTuple):
    """Trained heads.

    Attributes:
        heads: All of them.
        prototypes: ``(H, K, D + 1)``, of lifted unit rows.
        losses: float64 ``(H,)``, each head's on its own final labels.
        curve: float64 ``(rounds, H)``, each head's in the last pass of every round.
    """

    heads: ClusterHeads
    prototypes: Tensor
    losses: np.ndarray
    curve: np.ndarray


def train_heads(features: Tensor, settings: Settings, random: np.random.RandomState) -> Trained:
    """Trains new heads on features ``(N, D)`` of mean 0 and mean square 1.

    All randomness is ``random``'s, and generators' that it seeds.
    """
    generator = torch.Generator("cpu").manual_seed(int(random.randint(2**31 - 1)))
    heads = _new_heads(features.shape[1], settings, generator).to(features.device)
    optimizer = torch.optim.Adam(heads.parameters(), settings.learning_rate)
    curve: list[Tensor] = []
    best, improved = torch.from_numpy(np.full(settings.heads, math.inf)), 0
    for past in range(settings.rounds):
        sample = _draw(features, settings.samples, generator)
        probs = _probs(heads, sample) if past else _seed_probs(sample, settings, random)
        pseudo = _label(sample, probs, settings)
        steps = -(-pseudo.labels.shape[-1] // settings.batch_size)
        passes = max(_LEAST_PASSES, -(-_LEAST_STEPS // steps)) * (1 if past else _FIRST_ROUND)
        for _ in range(passes):
            seen = []
            for losses in _losses(heads, sample, pseudo, settings, generator):
                optimizer.zero_grad()
                # The heads share no parameter: each one learns by its own loss.
                torch.autograd.backward([losses], [torch.ones_like(losses)])
                with torch.device("cpu"):  # where it makes its counters, whatever the default
                    optimizer.step()
                seen.append(losses.detach())
        curve.append(_mean(seen))
        if (curve[-1] < best - settings.tol).any():
            improved = past
        best = torch.minimum(best, curve[-1])
        if settings.patience is not None and past - improved >= settings.patience:
            break
    sample = _draw(features, settings.samples, generator)
    with torch.no_grad():
        pseudo = _label(sample, _probs(heads, sample), settings)
        losses = _mean(list(_losses(heads, sample, pseudo, settings, generator)))
    return Trained(heads, pseudo.prototypes, losses.numpy(), torch.stack(curve).numpy())


def lift(features: Tensor) -> Tensor:
    """One constant coordinate more, as large as a mean row is long."""
    constant = features.new_full((len(features), 1), math.sqrt(features.shape[1]))
    return torch.cat([features, constant], dim=1)


def _new_heads(in_features: int, settings: Settings, generator: torch.Generator) -> ClusterHeads:
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    # The CPU's generator is put back as it was; torch.manual_seed would move CUDA's too.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return ClusterHeads(
            settings.heads, in_features, settings.clusters, hidden_features=settings.hidden
        )


def _draw(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    rows = torch.randperm(len(features), generator=generator, device="cpu")[:count]
    return features[rows.to(features.device)]


@torch.no_grad()
def _probs(heads: ClusterHeads, sample: Tensor) -> Tensor:
    probs: Tensor = heads(sample).softmax(-1)
    return probs


def _seed_probs(sample: Tensor, settings: Settings, random: np.random.RandomState) -> Tensor:
    """Probabilities ``(H, M, K)`` by the distance to k-means++ seeds of every head's own."""
    rows = normalize(lift(sample))
    distances = []
    for _ in range(settings.heads):
        seeds, _ = kmeans_plusplus(rows.cpu().numpy(), settings.clusters, random_state=random)
        distance = torch.cdist(rows, torch.from_numpy(seeds).to(rows))
        if settings.prior is not None:
            # The cluster that is expected to be the largest gets the seed of the most samples.
            sizes = np.bincount(distance.argmin(1).cpu().numpy(), minlength=settings.clusters)
            order = np.empty_like(sizes)
            largest_first = np.argsort(-np.array(settings.prior), kind="stable")
            order[largest_first] = np.argsort(-sizes, kind="stable")
            distance = distance[:, torch.from_numpy(order).to(distance.device)]
        distances.append(distance)
    stacked = torch.stack(distances)
    typical = stacked.mean((1, 2), keepdim=True).clamp(min=1e-12)
    return (-_SEED_SHARPNESS * stacked / typical).softmax(-1)


def _label(sample: Tensor, probs: Tensor, settings: Settings) -> PseudoLabels:
    return prototype_labels(
        lift(sample),
        probs,
        prototype_ratio=settings.prototype_ratio,
        label_ratio=settings.label_ratio,
        prior=settings.prior,
        assignment=settings.assignment,
    )


def _losses(
    heads: ClusterHeads,
    sample: Tensor,
    pseudo: PseudoLabels,
    settings: Settings,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """The losses ``(H,)`` of all labelled entries, a batch at a time, in random order."""
    confidence = label_confidence(pseudo)
    order = torch.randperm(pseudo.labels.shape[-1], generator=generator, device="cpu")
    order = order.to(sample.device)
    for batch in torch.split(order, settings.batch_size):
        sample_ids, labels = pseudo.indices[:, batch], pseudo.labels[:, batch]
        # A free place borrows sample 0; its label of -1 keeps it out of the loss.
        logits = heads(sample[sample_ids.clamp(min=0)])
        if settings.loss == "double_softmax":
            yield double_softmax_cross_entropy(logits, labels)
        else:
            yield soft_contrastive_loss(
                logits.softmax(-1), labels, confidence[:, batch], sample_ids=sample_ids
            )


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean(0).double().cpu()
