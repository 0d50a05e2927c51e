"""The labelling rules of SPICE and RPSC, composed from selection and assignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pseudolabel._checks import (
    check_device,
    check_option,
    check_probs,
    check_real,
    wrong_type,
    wrong_value,
)
from pseudolabel._numerics import result_dtype, split_rows, unit_rows
from pseudolabel.prototypes._counts import class_shares, scaled_counts
from pseudolabel.prototypes.assignment import (
    ASSIGNMENTS,
    METRICS,
    Assignment,
    Metric,
    assign,
    check_prototypes,
    prototype_similarity,
)
from pseudolabel.prototypes.selection import check_features, class_prototypes, select_confident
from pseudolabel.types import PseudoLabels

_SMALL_DISTANCE = 1e-6
_ROWS_AT_A_TIME = 16_384  # bounds the memory of nearest_prototype


@torch.no_grad()
def prototype_labels(
    features: Tensor,
    probs: Tensor,
    *,
    prototype_ratio: float = 0.5,
    label_ratio: float = 1.0,
    prior: Sequence[float] | Tensor | None = None,
    assignment: Assignment = "overlap",
    metric: Metric = "cosine",
) -> PseudoLabels:
    r"""Pseudo-labels from class prototypes (SPICE Eq. 2-4, RPSC Eq. 1-2).

    The ``prototype_ratio`` :math:`\cdot\, n_c` most confident samples of a cluster are averaged to
    its prototype, and the ``label_ratio`` :math:`\cdot\, n_c` samples nearest to it are labelled.
    The share :math:`n_c` is ``M // K``, or ``floor(M * prior_c / sum(prior))`` and at least 1, so a
    cluster cannot die out. Counts are computed exactly, from the ratios as they were written:
    0.29 of 100 is 29. Labels come from the features, not from the argmax of ``probs``.

    Args:
        features: ``(M, D)`` embeddings; under ``"cosine"`` their rows are L2-normalised before they
            are averaged, and a zero row stays zero.
        probs: Probabilities in [0, 1], ``(*heads, M, K)``; rows need not sum to 1.
        prototype_ratio: In (0, 1]; 1.0 is SPICE's Eq. 2, 0.5 its published code and RPSC's gamma.
        label_ratio: In (0, 1].
        prior: Expected class sizes or shares, ``K`` positive numbers, read as decimals; None means
            uniform. A sequence, not a tensor, where this is compiled.
        assignment: ``"overlap"``, ``"greedy"``, ``"optimal"``, ``"sequential"`` or ``"nearest"``;
            see `assign_labels`.
        metric: ``"cosine"`` or ``"euclidean"``.

    Returns:
        PseudoLabels, without gradient. The number of entries depends on shapes and ratios alone.

    Raises:
        TypeError: If an input is not a floating-point tensor, or an option of the wrong kind.
        ValueError: If ``M < K``, or a shape, value, ratio or option is out of range.

    Example:
        >>> import torch
        >>> from pseudolabel import prototype_labels
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0]])
        >>> probs = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> prototype_labels(features, probs).dense(4)
        tensor([0, 0, 1, 1])
    """
    check_features("features", features, "M, D")
    check_probs("probs", probs, "*heads, M, K")
    check_device("probs", probs, features)
    num_samples, num_classes = probs.shape[-2:]
    if num_samples != len(features):
        wrong_value("probs", f"{len(features)} rows, one for each feature", probs)
    if num_classes == 0 or num_samples < num_classes:
        wrong_value("probs", "at least one class and as many samples as classes (M >= K)", probs)
    check_real("prototype_ratio", prototype_ratio, low_open=True)
    check_real("label_ratio", label_ratio, low_open=True)
    check_option("assignment", assignment, ASSIGNMENTS)
    check_option("metric", metric, METRICS)
    shares = class_shares(int(num_samples), num_classes, prior)

    rows, averaged, dtype = split_rows(features, metric), features, result_dtype(features)
    if metric == "cosine":
        averaged = unit_rows(features, rows).to(dtype)
    selected = select_confident(probs, scaled_counts(shares, prototype_ratio))
    prototypes = class_prototypes(averaged, selected)
    similarity = prototype_similarity(rows, prototypes, dtype)
    return assign(similarity, prototypes, scaled_counts(shares, label_ratio), assignment, metric)


@torch.no_grad()
def nearest_prototype(features: Tensor, prototypes: Tensor, *, metric: Metric = "cosine") -> Tensor:
    r"""Labels every sample with its nearest prototype (RPSC Eq. 6).

    .. math:: l_i = \arg\max_j \, s(f_i, \gamma_j)

    Args:
        features: ``(N, D)``.
        prototypes: ``(*heads, K, D)``.
        metric: ``"cosine"`` or ``"euclidean"``.

    Returns:
        int64 labels ``(*heads, N)``; ties to the lowest class.

    Raises:
        TypeError: If an input is not a floating-point tensor.
        ValueError: If shapes, devices or the metric do not fit, or a value is not finite.

    Example:
        >>> import torch
        >>> from pseudolabel import nearest_prototype
        >>> prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> nearest_prototype(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 1.0]]), prototypes)
        tensor([0, 1, 0])
    """
    check_features("features", features, "N, D")
    check_prototypes(prototypes, features)
    check_option("metric", metric, METRICS)

    dtype, blocks = result_dtype(features), torch.split(features, _ROWS_AT_A_TIME)
    labels = [
        prototype_similarity(split_rows(block, metric), prototypes, dtype).argmax(-2)
        for block in blocks
    ]
    return torch.cat(labels, dim=-1)


@torch.no_grad()
def label_confidence(
    pseudo_labels: PseudoLabels, *, kind: Literal["one_minus", "paper", "none"] = "one_minus"
) -> Tensor:
    r"""How much to trust each pseudo-label, by its distance to the prototype (RPSC Eq. 3).

    .. math:: d_{ic} = \frac{\lVert f_i - \gamma_c \rVert}{\max_j \lVert f_j - \gamma_c \rVert}
        \in [0, 1]

    The maximum is over the samples labelled c. The distance is minus the similarity under
    ``"euclidean"`` and ``sqrt(2 - 2 cos)`` under ``"cosine"``; below 1e-6 it counts as 0, and 0 / 0
    is 0. The paper calls ``d`` a confidence although it grows with the distance; ``"one_minus"``
    is what its text describes.

    Args:
        pseudo_labels: The result of `prototype_labels` or `assign_labels`.
        kind: ``"one_minus"`` (1 - d), ``"paper"`` (d itself) or ``"none"`` (ones).

    Returns:
        ``(*heads, entries)`` in [0, 1]; free places get 0.

    Raises:
        TypeError: If ``pseudo_labels`` is not a PseudoLabels.
        ValueError: If ``kind`` is unknown.

    Example:
        >>> import torch
        >>> from pseudolabel import assign_labels, label_confidence
        >>> points = torch.tensor([[0.0], [1.0], [4.0]])
        >>> label_confidence(assign_labels(points, points[:1], 3, metric="euclidean"))
        tensor([1.0000, 0.7500, 0.0000])
    """
    if not isinstance(pseudo_labels, PseudoLabels):
        wrong_type("pseudo_labels", "a PseudoLabels", pseudo_labels)
    check_option("kind", kind, ("one_minus", "paper", "none"))
    taken = pseudo_labels.labels >= 0
    similarity = torch.where(taken, pseudo_labels.similarity, 0)
    if kind == "none":
        return taken.to(similarity.dtype)

    distance = -similarity
    if pseudo_labels.metric == "cosine":
        distance = (2 - 2 * similarity).clamp(min=0).sqrt()
    distance = torch.where(taken & (distance >= _SMALL_DISTANCE), distance, 0)
    clusters = pseudo_labels.labels.clamp(min=0)
    farthest = distance.new_zeros(pseudo_labels.prototypes.shape[:-1])
    farthest = farthest.scatter_reduce(-1, clusters, distance, "amax").gather(-1, clusters)
    relative = distance / torch.where(farthest > 0, farthest, 1)
    return torch.where(taken, 1 - relative if kind == "one_minus" else relative, 0)
