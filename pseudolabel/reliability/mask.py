"""Which labels the neighbours of a sample confirm: SPICE Eq. 6-7, RPSC Eq. 6."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import (
    check_device,
    check_flag,
    check_integer,
    check_labels,
    check_real,
    values_are_checked,
    wrong_type,
    wrong_value,
)
from pseudolabel._numerics import as_fraction
from pseudolabel.neighbors import NeighborBackend, nearest_neighbors
from pseudolabel.types import Neighbors

_BLOCK_LABELS = 2**24  # neighbour labels gathered at a time


@torch.no_grad()
def reliability_ratio(labels: Tensor | np.ndarray, neighbors: Neighbors | Tensor) -> Tensor:
    r"""The share of a sample's neighbours that carry its label (SPICE Eq. 6, RPSC Eq. 6).

    .. math:: r_i = \frac{1}{k} \sum_{j \in N_k(i)} 1[l_j = l_i]

    Args:
        labels: ``(*heads, N)``, an int64 tensor or an array of integers; -1 for unlabelled.
        neighbors: Neighbors, or int64 indices ``(N, k)`` in ``[0, N)``.

    Returns:
        float64 ``(*heads, N)`` in [0, 1]; 0 where the label is -1. Neighbours without a label
        agree with nobody.

    Raises:
        TypeError: If ``labels`` or ``neighbors`` are not of integers.
        ValueError: If a shape, label or index is out of range, or devices differ.

    Example:
        >>> import torch
        >>> from pseudolabel import reliability_ratio
        >>> neighbors = torch.tensor([[1, 2], [0, 2], [0, 1]])
        >>> reliability_ratio(torch.tensor([0, 0, 1]), neighbors)
        tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """
    labels, indices = _checked(labels, neighbors)
    return _agreement(labels, indices).double() / indices.shape[-1]


@torch.no_grad()
def reliable_mask(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    k: int = 100,
    threshold: float = 0.95,
    strict: bool = True,
    include_self: bool = False,
    metric: Literal["cosine", "euclidean"] = "cosine",
    backend: str | NeighborBackend = "auto",
    neighbors: Neighbors | Tensor | None = None,
) -> Tensor:
    r"""Marks the samples whose neighbours mostly share their label (SPICE Eq. 7, RPSC Eq. 6).

    .. math:: m_i = [\, r_i > \lambda \,]

    Agreement is counted in integers and the threshold read as it was written: 95 of 100 is not
    above 0.95. A sample labelled -1 is never reliable.

    Args:
        features: ``(N, D)`` tensor or array; with ``neighbors`` it only gives N.
        labels: ``(*heads, N)``, an int64 tensor or an array of integers; -1 for unlabelled.
        k: How many neighbours, in ``[1, N - 1]``; both papers use 100.
        threshold: In [0, 1]; both papers use 0.95.
        strict: True keeps ratios above the threshold (both papers); False also those equal to it
            (SPICE's published code).
        include_self: Whether a sample is one of its own k neighbours (SPICE's published code).
        metric: ``"cosine"`` or ``"euclidean"``.
        backend: See `nearest_neighbors`.
        neighbors: A graph computed before; its width is then k.

    Returns:
        bool ``(*heads, N)``, on the features' device.

    Raises:
        TypeError: If an input is of the wrong kind.
        ValueError: If a shape, ``k``, label or the threshold is out of range.

    Example:
        >>> import torch
        >>> from pseudolabel import reliable_mask
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> reliable_mask(features, torch.tensor([0, 0, 1, -1]), k=1, threshold=0.5)
        tensor([ True,  True, False, False])
    """
    labels, counts, width = count_agreement(
        features, labels, k, threshold, strict, include_self, metric, backend, neighbors
    )
    return passes(labels, counts, width, threshold, strict)


def count_agreement(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    k: int,
    threshold: float,
    strict: bool,
    include_self: bool,
    metric: Literal["cosine", "euclidean"],
    backend: str | NeighborBackend,
    neighbors: Neighbors | Tensor | None,
) -> tuple[Tensor, Tensor, int]:
    """Labels as a tensor, how many neighbours agree with each, and of how many."""
    check_real("threshold", threshold)
    check_flag("strict", strict)
    if not isinstance(features, (Tensor, np.ndarray)):
        wrong_type("features", "a tensor or NumPy array of shape (N, D)", features)
    if features.ndim != 2:
        wrong_value("features", "shape (N, D)", features)
    tensor = _as_labels(labels)
    if tensor.shape[-1] != len(features):
        wrong_value("labels", f"{len(features)} of them, one for each feature", tensor)
    if isinstance(features, Tensor):
        if isinstance(labels, np.ndarray):
            tensor = tensor.to(features.device)
        check_device("labels", tensor, features)
    if neighbors is None:
        neighbors = nearest_neighbors(
            features, k, include_self=include_self, metric=metric, backend=backend
        )
    tensor, indices = _checked(tensor, neighbors)
    return tensor, _agreement(tensor, indices), indices.shape[-1]


def _as_labels(labels: Tensor | np.ndarray) -> Tensor:
    if isinstance(labels, np.ndarray):
        if not np.issubdtype(labels.dtype, np.integer):
            wrong_type("labels", "an integer dtype", labels)
        labels = torch.from_numpy(labels.astype(np.int64))
    check_integer("labels", labels, "*heads, N")
    check_labels("labels", labels)
    return labels


def _checked(labels: Tensor | np.ndarray, neighbors: Neighbors | Tensor) -> tuple[Tensor, Tensor]:
    labels = _as_labels(labels)
    indices = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    check_integer("neighbors", indices, "N, k")
    check_device("neighbors", indices, labels)
    if len(indices) != labels.shape[-1] or 0 in indices.shape:
        wrong_value("neighbors", f"shape ({labels.shape[-1]}, k), one row a label", indices)
    if values_are_checked(indices):
        outside = (indices < 0) | (indices >= len(indices))
        if outside.any():
            expected = f"indices in [0, {len(indices) - 1}]"
            wrong_value("neighbors", expected, int(indices[outside][0]))
    return labels, indices


def _agreement(labels: Tensor, indices: Tensor) -> Tensor:
    """How many neighbours carry each sample's label, int64 ``(*heads, N)``; 0 for label -1."""
    size = max(1, _BLOCK_LABELS // max(1, labels.numel() // len(indices) * indices.shape[-1]))
    counts = [
        (labels[..., block] == own.unsqueeze(-1)).sum(-1)
        for block, own in zip(
            torch.split(indices, size), torch.split(labels, size, dim=-1), strict=True
        )
    ]
    return torch.where(labels >= 0, torch.cat(counts, dim=-1), 0)


def passes(labels: Tensor, counts: Tensor, width: int, threshold: float, strict: bool) -> Tensor:
    """Compares counts of ``width`` with the threshold, in integers."""
    exact = as_fraction(threshold) * width
    needed = exact.numerator // exact.denominator + 1 if strict else -(-exact // 1)
    return (labels >= 0) & (counts >= int(needed))
