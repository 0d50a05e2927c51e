"""Which labels the neighbours speak against: rows ranked by how little their class explains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from pseudolabel._checks import check_int, wrong_value
from pseudolabel.reliability import reliability_ratio
from pseudolabel.reliability._votes import as_labels
from pseudolabel.types import Neighbors

_PRIOR_ROWS = 10  # what is assumed of a class before its rows are seen weighs as many rows
_PASSES = 2
_BLOCK_PAIRS = 2**16
_DECIMALS = 9  # what two classes explain equally well must tie, however it was summed


class Doubt(NamedTuple):
    """What the neighbours of each row say about its label.

    Attributes:
        order: int64 ``(S,)``, the rows of positive doubt, most doubtful first (ties: the lower
            ratio, then the lower row).
        suggested: int64 ``(N,)``, the class that explains the neighbours' labels best; -1 where no
            neighbour has a label. A row without doubt is suggested its own label.
        doubt: float64 ``(N,)``, how much better it explains them than the row's own class: a mean
            log-likelihood ratio per neighbour, in nats. Above 0 the neighbours speak for another
            class; 0 where none is better, or the row or all of its neighbours are unlabelled.
    """

    order: np.ndarray
    suggested: np.ndarray
    doubt: np.ndarray


def find_doubtful(
    labels: Tensor | np.ndarray,
    neighbors: Neighbors | Tensor,
    *,
    num_classes: int | None = None,
) -> Doubt:
    r"""Ranks the labels that are most likely wrong, and suggests others.

    Every class c has a profile: how often the neighbours of its rows carry each label e. A row
    whose neighbours carry :math:`v_e` labels e is doubtful if another class explains them better
    than its own, y:

    .. math:: \max_c \sum_e \frac{v_e}{k} \log T_{ce} - \sum_e \frac{v_e}{k} \log T_{ye}

    where c runs over the labels that the row's neighbours carry. So a row between two classes that
    always mix is not suspected, and one whose neighbours agree on another class is. The profiles
    are made a second time without the rows that the first ones speak against: flips that always go
    from one class to the same other one would hide in the profiles else. Every profile starts from
    ten rows' worth of votes for the class itself, at the mean reliability ratio, the rest by class
    frequency: a class of few rows takes no others in.

    Args:
        labels: ``(N,)``, an int64 tensor or an array of integers; -1 for unlabelled.
        neighbors: Neighbors, or int64 indices ``(N, k)`` in ``[0, N)``.
        num_classes: K; None means the largest label + 1.

    Returns:
        Doubt.

    Raises:
        TypeError: If ``labels`` or ``neighbors`` are not of integers.
        ValueError: If a shape, label or index is out of range.

    Example:
        >>> import torch
        >>> from pseudolabel import nearest_neighbors
        >>> from pseudolabel.report import find_doubtful
        >>> features = torch.eye(2).repeat_interleave(20, dim=0)
        >>> features += 0.1 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        >>> labels = torch.arange(40) // 20
        >>> labels[6] = 1
        >>> doubt = find_doubtful(labels, nearest_neighbors(features, 5))
        >>> doubt.order.tolist(), doubt.suggested[6].item()
        ([6], 0)
    """
    ratio = reliability_ratio(labels, neighbors).cpu().numpy()
    if ratio.ndim != 1:
        wrong_value("labels", "shape (N,)", labels)
    given = as_labels(labels).cpu().numpy()
    num_classes = _number_of_classes(given, num_classes)
    indices = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    votes = _votes(given, indices.cpu().numpy(), num_classes)

    trusted = given >= 0
    for _ in range(_PASSES):
        profiles = _log_profiles(votes, given, ratio, trusted, num_classes)
        suggested, doubt = _compare(votes, given, profiles)
        trusted = (given >= 0) & (doubt <= 0)
    rows = np.flatnonzero(doubt > 0)
    order = rows[np.lexsort((rows, ratio[rows], -doubt[rows]))]
    return Doubt(order, suggested, doubt)


def _number_of_classes(given: np.ndarray, num_classes: int | None) -> int:
    least = int(given.max(initial=-1)) + 1
    if num_classes is None:
        return max(least, 1)
    return check_int("num_classes", num_classes, max(least, 1), None, " (the largest label + 1)")


def _votes(given: np.ndarray, indices: np.ndarray, num_classes: int) -> csr_array:
    """The share ``(N, K)`` of each row's neighbours that carry each label; sparse, k a row."""
    carried = given[indices]
    labelled = carried >= 0
    starts = np.concatenate([[0], labelled.sum(1).cumsum()])
    shares = np.full(starts[-1], 1 / indices.shape[1])
    votes = csr_array((shares, carried[labelled], starts), shape=(len(given), num_classes))
    votes.sum_duplicates()
    return votes


def _log_profiles(
    votes: csr_array, given: np.ndarray, ratio: np.ndarray, trusted: np.ndarray, num_classes: int
) -> np.ndarray:
    """Log of the mean votes ``(K, K)`` of each class's trusted rows and of the rows assumed."""
    rows = np.flatnonzero(trusted)
    member = csr_array((np.ones(len(rows)), (given[rows], rows)), shape=votes.shape[::-1])
    frequency = np.bincount(given[given >= 0], minlength=num_classes) / max(1, (given >= 0).sum())
    agreement = ratio[rows].mean() if len(rows) else 1.0
    assumed = np.broadcast_to((1 - agreement) * frequency, (num_classes, num_classes)).copy()
    assumed[np.diag_indices(num_classes)] += agreement
    counts: np.ndarray = (member @ votes).toarray() + _PRIOR_ROWS * assumed + 1e-9
    profiles: np.ndarray = np.log(counts / counts.sum(1, keepdims=True))
    return profiles


def _compare(
    votes: csr_array, given: np.ndarray, profiles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best class of each row among its neighbours' and its own, and its lead over its own."""
    rows = np.repeat(np.arange(len(given)), np.diff(votes.indptr))
    scores = _explained(votes, rows, votes.indices, profiles)
    order = np.lexsort((votes.indices, -scores, rows))
    voted = np.flatnonzero(np.diff(votes.indptr))
    best = order[votes.indptr[voted]]  # of each of these rows
    suggested, doubt = np.full(len(given), -1), np.zeros(len(given))
    suggested[voted] = votes.indices[best]

    labelled = given[voted] >= 0
    rows, best = voted[labelled], best[labelled]
    lead = scores[best] - _explained(votes, rows, given[rows], profiles)
    doubt[rows] = np.maximum(lead, 0)
    # Where another class is no better it is not suggested either.
    suggested[rows[lead <= 0]] = given[rows[lead <= 0]]
    return suggested, doubt


def _explained(
    votes: csr_array, rows: np.ndarray, classes: np.ndarray, profiles: np.ndarray
) -> np.ndarray:
    """How well a class explains the votes of a row, for pairs of row and class."""
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK_PAIRS):
        pair = slice(start, start + _BLOCK_PAIRS)
        first, count = votes.indptr[rows[pair]], np.diff(votes.indptr)[rows[pair]]
        own = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(own)) - np.repeat(count.cumsum() - count, count)
        entry = np.repeat(first, count) + within
        terms = votes.data[entry] * profiles[classes[pair][own], votes.indices[entry]]
        scores[pair] = np.bincount(own, terms, minlength=len(count))
    return np.round(scores, _DECIMALS)
