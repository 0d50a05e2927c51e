"""The most confident samples of every cluster, and their mean: SPICE Eq. 2-3, RPSC Eq. 1-2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from pseudolabel._checks import (
    check_device,
    check_floating,
    check_integer,
    check_probs,
    values_are_checked,
    wrong_value,
)
from pseudolabel._numerics import result_dtype, sort_descending
from pseudolabel.prototypes._counts import class_counts


@torch.no_grad()
def select_confident(probs: Tensor, count: int | Sequence[int]) -> Tensor:
    r"""Selects the most confident samples of every cluster (SPICE Eq. 2, RPSC Eq. 1).

    .. math:: S_c = \operatorname{argtopk}_i (p_{ic}, n_c)

    The clusters choose independently: a sample can be selected by several. Equal probabilities
    (a saturated softmax has many) go to the lowest index.

    Args:
        probs: Probabilities in [0, 1], ``(*heads, M, K)``; rows need not sum to 1.
        count: How many samples to select, in ``[1, M]``: an int, or ``K`` of them.

    Returns:
        int64 indices ``(*heads, K, max count)``, most confident first, padded with -1.

    Raises:
        TypeError: If ``probs`` is not a floating-point tensor or ``count`` not made of ints.
        ValueError: If a shape, a probability or a count is out of range.

    Example:
        >>> import torch
        >>> from pseudolabel import select_confident
        >>> probs = torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
        >>> select_confident(probs, 2)
        tensor([[3, 0],
                [2, 1]])
    """
    check_probs("probs", probs, "*heads, M, K")
    num_samples, num_classes = probs.shape[-2:]
    counts = class_counts(count, num_classes, num_samples)
    if num_classes == 0:
        wrong_value("probs", "at least one class", probs)

    _, order = sort_descending(probs.mT.contiguous())
    return keep_counts(order[..., : max(counts)], counts)


@torch.no_grad()
def class_prototypes(features: Tensor, indices: Tensor) -> Tensor:
    r"""Averages the selected features of every cluster into its prototype (SPICE Eq. 3).

    .. math:: \gamma_c = \frac{1}{|S_c|} \sum_{i \in S_c} f_i

    The mean is plain: neither features nor prototypes are normalised. The paper prints the factor
    as 1/M; under the cosine the two agree. Sums are taken in float64.

    Args:
        features: ``(M, D)``.
        indices: int64 ``(*heads, K, count)`` in ``[-1, M)``; entries of -1 are skipped.

    Returns:
        ``(*heads, K, D)`` prototypes, float32 (float64 for float64 features), without gradient. A
        cluster without any index gets zeros, which have similarity 0 to everything.

    Raises:
        TypeError: If ``features`` is not floating-point or ``indices`` not int64.
        ValueError: If a shape or an index is out of range, or devices differ.

    Example:
        >>> import torch
        >>> from pseudolabel import class_prototypes
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> class_prototypes(features, torch.tensor([[0, -1], [1, 2]]))
        tensor([[1., 0.],
                [0., 2.]])
    """
    check_features("features", features, "M, D")
    check_integer("indices", indices, "*heads, K, count")
    check_device("indices", indices, features)
    if values_are_checked(indices):
        outside = (indices < -1) | (indices >= len(features))
        if outside.any():
            expected = f"indices in [-1, {len(features) - 1}]"
            wrong_value("indices", expected, indices[outside][0].item())

    if indices.shape[-1] == 0:
        indices = pad(indices, (0, 1), value=-1)
    chosen = (indices >= 0).double()
    sums = embedding_bag(
        indices.clamp(min=0).flatten(0, -2),
        features.double(),
        mode="sum",
        per_sample_weights=chosen.flatten(0, -2),
    )
    means = sums.reshape(*indices.shape[:-1], features.shape[-1]) / chosen.sum(
        -1, keepdim=True
    ).clamp(min=1)
    return means.to(result_dtype(features))


def check_features(name: str, features: Tensor, axes: str) -> None:
    """Checks for finite features with at least one row and one dimension."""
    check_floating(name, features, axes)
    if features.shape[-2] == 0 or features.shape[-1] == 0:
        wrong_value(name, "at least one row and one dimension", features)


def keep_counts(order: Tensor, counts: Sequence[int]) -> Tensor:
    """Replaces, in a ``(*heads, K, widest)`` table, what lies beyond each cluster's count by -1."""
    if min(counts) == order.shape[-1]:
        return order
    places = torch.arange(order.shape[-1], device=order.device)
    limits = torch.tensor(counts, device=order.device).unsqueeze(-1)
    return torch.where(places < limits, order, -1)
