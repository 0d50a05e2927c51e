"""Which labels their neighbours confirm, over sharded samples: labels go round a ring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from pseudolabel._checks import (
    check_device,
    check_flag,
    check_floating,
    check_integer,
    check_labels,
    check_real,
    values_are_checked,
    wrong_value,
)
from pseudolabel.distributed._ranks import Ranks
from pseudolabel.distributed.neighbors import nearest_neighbors
from pseudolabel.neighbors import DEFAULT_MEMORY
from pseudolabel.reliability._votes import needed_votes
from pseudolabel.types import Neighbors

_LABELS_AT_A_TIME = 2**24


@torch.no_grad()
def reliability_ratio(
    labels: Tensor, neighbors: Neighbors | Tensor, *, process_group: dist.ProcessGroup | None = None
) -> Tensor:
    """`pseudolabel.reliability_ratio` of this rank's samples (SPICE Eq. 6, RPSC Eq. 6).

    Args:
        labels: This rank's int64 ``(*heads, N_r)``; -1 for unlabelled.
        neighbors: This rank's, ``(N_r, k)``, with global indices.
        process_group: The ranks that share the samples; None means all.

    Returns:
        float64 ``(*heads, N_r)`` in [0, 1]; 0 where the label is -1.

    Raises:
        TypeError: If an argument is of the wrong kind on this rank.
        ValueError: If an argument is wrong on any rank, or not the same on all.
        RuntimeError: If another rank has died, within the group's timeout.

    Example:
        >>> import torch
        >>> from pseudolabel import distributed
        >>> neighbors = torch.tensor([[1, 2], [0, 2], [0, 1]])
        >>> distributed.reliability_ratio(torch.tensor([0, 0, 1]), neighbors)  # of one rank
        tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """
    indices = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    counts = _votes(Ranks(process_group), labels, indices)
    return counts.double() / indices.shape[1]


@torch.no_grad()
def reliable_mask(
    features: Tensor,
    labels: Tensor,
    *,
    k: int = 100,
    threshold: float = 0.95,
    strict: bool = True,
    include_self: bool = False,
    metric: Literal["cosine", "euclidean"] = "cosine",
    neighbors: Neighbors | Tensor | None = None,
    memory_limit: int = DEFAULT_MEMORY,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """`pseudolabel.reliable_mask` of this rank's samples (SPICE Eq. 7, RPSC Eq. 6).

    Args:
        features: This rank's ``(N_r, D)``; with ``neighbors`` it only gives N_r.
        labels: This rank's int64 ``(*heads, N_r)``; -1 for unlabelled.
        k: See `nearest_neighbors`.
        threshold: See `pseudolabel.reliable_mask`.
        strict: See there.
        include_self: See there.
        metric: See there.
        neighbors: This rank's, with global indices; their width is then k. On all ranks or on none.
        memory_limit: See `nearest_neighbors`.
        process_group: The ranks that share the samples; None means all.

    Returns:
        bool ``(*heads, N_r)``.

    Raises:
        TypeError: If an argument is of the wrong kind on this rank.
        ValueError: If an argument is wrong on any rank, or not the same on all.
        RuntimeError: If another rank has died, within the group's timeout.

    Example:
        >>> import torch
        >>> from pseudolabel import distributed
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> labels = torch.tensor([0, 0, 1, -1])
        >>> distributed.reliable_mask(features, labels, k=1, threshold=0.5)  # of one rank
        tensor([ True,  True, False, False])
    """
    ranks = Ranks(process_group)

    def check() -> Mapping[str, object]:
        check_floating("features", features, "N, D")
        check_real("threshold", threshold)
        check_flag("strict", strict)
        _check_labels(labels, len(features))
        check_device("labels", labels, features)
        return {"threshold": threshold, "strict": strict, "neighbors": neighbors is not None}

    ranks.agree(0, check)
    if neighbors is None:
        neighbors = nearest_neighbors(
            features,
            k,
            metric=metric,
            include_self=include_self,
            memory_limit=memory_limit,
            process_group=process_group,
        )
    indices = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    counts = _votes(ranks, labels, indices)
    return (labels >= 0) & (counts >= needed_votes(threshold, indices.shape[1], strict))


def _votes(ranks: Ranks, labels: Tensor, indices: Tensor) -> Tensor:
    """How many neighbours carry each sample's label, int64 ``(*heads, N_r)``."""

    def check() -> Mapping[str, object]:
        _check_labels(labels, None)
        check_integer("neighbors", indices, "N, k")
        check_device("neighbors", indices, labels)
        if len(indices) != labels.shape[-1] or indices.shape[1] == 0:
            wrong_value("neighbors", f"shape ({labels.shape[-1]}, k), one row a label", indices)
        return {"labels": (*labels.shape[:-1], "N"), "neighbors": f"k = {indices.shape[1]}"}

    shape = labels.shape if isinstance(labels, Tensor) and labels.ndim else (0,)
    ranks.agree(shape[-1], check)

    def within() -> Mapping[str, object]:
        if ranks.total == 0:
            wrong_value("labels", "at least one sample", labels)
        if values_are_checked(indices):
            outside = (indices < 0) | (indices >= ranks.total)
            if outside.any():
                expected = f"indices in [0, {ranks.total - 1}]"
                wrong_value("neighbors", expected, int(indices[outside][0]))
        return {}

    ranks.agree(shape[-1], within)
    own = labels.unsqueeze(0).flatten(0, -2).T.contiguous()
    counts = torch.zeros_like(own)
    size = max(1, _LABELS_AT_A_TIME // (indices.shape[1] * max(1, own.shape[1])))
    for owner, block in ranks.ring(own):
        for start in range(0, len(own) if len(block) else 0, size):
            rows = slice(start, start + size)
            places = indices[rows] - ranks.offsets[owner]
            here = (places >= 0) & (places < len(block))
            theirs = block[places.clamp(0, len(block) - 1)]
            same = (theirs == own[rows, None]) & here.unsqueeze(-1)
            counts[rows] += same.sum(1)
    return torch.where(own >= 0, counts, 0).T.reshape(labels.shape)


def _check_labels(labels: Tensor, count: int | None) -> None:
    check_integer("labels", labels, "*heads, N")
    check_labels("labels", labels)
    if count is not None and labels.shape[-1] != count:
        wrong_value("labels", f"{count} of them, one for each feature", labels)
