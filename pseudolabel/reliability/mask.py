"""Which labels the neighbours of a sample confirm: SPICE Eq. 6-7, RPSC Eq. 6."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pseudolabel.neighbors import DEFAULT_MEMORY, NeighborBackend
from pseudolabel.reliability._votes import agreement, as_labels, check_graph, count_votes
from pseudolabel.types import Neighbors


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
    given = as_labels(labels)
    indices = check_graph(neighbors, given)
    return agreement(given, indices).double() / indices.shape[1]


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
    memory_limit: int = DEFAULT_MEMORY,
    progress: bool = False,
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
        memory_limit: See `nearest_neighbors`; the graph itself is never held.
        progress: Whether to show a bar (needs tqdm).

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
    votes = count_votes(
        features,
        labels,
        k=k,
        threshold=threshold,
        strict=strict,
        include_self=include_self,
        metric=metric,
        backend=backend,
        neighbors=neighbors,
        memory_limit=memory_limit,
        progress=progress,
        exact=False,
    )
    return votes.passed
