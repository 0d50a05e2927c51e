"""Measures that take the ground truth, beside the library's own metrics."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import one_hot

from pseudolabel import prototype_labels

POINTS = 20  # of a curve


class Findings(NamedTuple):
    """The papers' figures as numbers; None without ground truth.

    Attributes:
        shares: Shares of samples at which the curves are read, ``(0, 1]``.
        consistent: Accuracy of that share of all samples, those of the highest reliability ratio
            first: what a threshold trades.
        confident: The same, the most confident predictions first.
        purity: Of that share of M / K samples nearest to each prototype, how many have the class of
            the most (RPSC's Fig. 1), the mean over the clusters that have samples.
        confusion: Samples ``(classes, K)``, the clusters in the order that fits the classes best.
        clusters: Their numbers, in that order.
    """

    shares: list[float]
    consistent: list[float] | None
    confident: list[float] | None
    purity: list[float] | None
    confusion: list[list[int]] | None
    clusters: list[int] | None


def find(
    embeddings: Tensor,
    probs: Tensor,
    labels: Tensor,
    ratio: Tensor,
    final: Tensor,
    truth: Tensor | None,
) -> Findings:
    """Measures labels against the truth.

    Args:
        embeddings: ``(N, D)``, which the prototypes are made of.
        probs: ``(N, K)`` that the labels come from.
        labels: int64 ``(N,)`` clusters.
        ratio: ``(N,)``, how consistent each label is with its neighbours'.
        final: int64 ``(N,)`` clusters that the run ends with.
        truth: int64 ``(N,)``, -1 where unknown, or None.

    Returns:
        The findings, over the samples whose truth is known.
    """
    shares = [(point + 1) / POINTS for point in range(POINTS)]
    if truth is None:
        return Findings(shares, None, None, None, None, None)
    known = (truth >= 0).nonzero()[:, 0]
    embeddings, probs, labels, ratio, final, truth = (
        part[known] for part in (embeddings, probs, labels, ratio, final, truth)
    )
    num_clusters = probs.shape[-1]
    right = _best_classes(_contingency(labels, truth, num_clusters))[labels] == truth
    confusion = _contingency(final, truth, num_clusters)
    best = _best_classes(confusion)
    order = best.where(best >= 0, len(confusion)).argsort(stable=True)
    return Findings(
        shares,
        _accuracy_of_first(right.double(), ratio, shares),
        _accuracy_of_first(right.double(), probs.amax(-1), shares),
        _purity(embeddings, probs, labels, truth, shares),
        confusion[:, order].tolist(),
        order.tolist(),
    )


def linear_probe(features: Tensor, truth: Tensor) -> float | None:
    """Accuracy of a linear classifier of features ``(N, D)`` on the half that it did not learn.

    None if there are no two classes in the half that it would learn.

    Features are scaled to unit variance; the halves are the same for the same truth.
    """
    known = (truth >= 0).numpy()
    rows, classes = features.cpu().numpy()[known], truth.numpy()[known]
    rows = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    # A class with a single sample cannot be halved.
    sizes = torch.from_numpy(classes).bincount()
    evenly = None if (sizes == 1).any() else classes
    halves = train_test_split(rows, classes, test_size=0.5, random_state=0, stratify=evenly)
    if len(set(halves[2])) < 2:
        return None
    classifier = LogisticRegression(max_iter=300).fit(halves[0], halves[2])
    return float(classifier.score(halves[1], halves[3]))


def _contingency(labels: Tensor, truth: Tensor, num_clusters: int) -> Tensor:
    classes = int(truth.max()) + 1
    cells = truth * num_clusters + labels
    return cells.bincount(minlength=classes * num_clusters).view(classes, num_clusters)


def _best_classes(counts: Tensor) -> Tensor:
    """The class that fits each cluster best, int64 ``(K,)``; -1 for a cluster too many."""
    classes, clusters = linear_sum_assignment(counts.numpy(), maximize=True)
    best = torch.full(counts.shape[1:], -1)
    best[torch.from_numpy(clusters)] = torch.from_numpy(classes)
    return best


def _accuracy_of_first(right: Tensor, order_by: Tensor, shares: list[float]) -> list[float]:
    order = order_by.argsort(descending=True, stable=True)
    running = right[order].cumsum(0)
    ends = [max(1, round(share * len(right))) for share in shares]
    return [float(running[end - 1] / end) for end in ends]


def _purity(
    embeddings: Tensor, probs: Tensor, labels: Tensor, truth: Tensor, shares: list[float]
) -> list[float]:
    nearest = prototype_labels(embeddings, probs).indices.view(probs.shape[-1], -1)
    nearest = nearest[labels.unique()]  # without clusters that nothing is in
    counts = one_hot(truth[nearest]).cumsum(1)  # (K, n, classes)
    ends = [max(1, round(share * nearest.shape[1])) for share in shares]
    return [float((counts[:, end - 1].amax(-1) / end).mean()) for end in ends]
