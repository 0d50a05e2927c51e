"""Exact neighbours of sharded samples: blocks go round a ring, and the best of each are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from pseudolabel import neighbors as single
from pseudolabel._checks import check_flag, check_floating, check_int, check_option, wrong_value
from pseudolabel._numerics import result_dtype, sort_descending
from pseudolabel.distributed._ranks import Ranks
from pseudolabel.neighbors import DEFAULT_MEMORY
from pseudolabel.neighbors._pairs import exactly
from pseudolabel.types import Neighbors

_BYTES_OF_SPLITTING = 128  # an element of the rows being split, here and in the block


@torch.no_grad()
def nearest_neighbors(
    features: Tensor,
    k: int,
    *,
    metric: Literal["cosine", "euclidean"] = "cosine",
    include_self: bool = False,
    memory_limit: int = DEFAULT_MEMORY,
    process_group: dist.ProcessGroup | None = None,
) -> Neighbors:
    """`pseudolabel.nearest_neighbors` of this rank's samples among those of all ranks.

    The shards go round a ring, so that a rank holds its own rows, at most two that visit, and its
    answer. What the blocks give is put in order by similarities that depend on their two rows
    alone: indices and similarities are those of one process to the last bit.

    Args:
        features: This rank's ``(N_r, D)``; N_r may be 0.
        k: How many neighbours, in ``[1, N - 1]`` with N the samples of all ranks; up to N with
            ``include_self``.
        metric: See `pseudolabel.nearest_neighbors`.
        include_self: See there.
        memory_limit: See there: of the search in one block.
        process_group: The ranks that share the samples; None means all.

    Returns:
        Neighbors ``(N_r, k)`` of this rank's samples, with global indices.

    Raises:
        TypeError: If an argument is of the wrong kind on this rank.
        ValueError: If an argument is wrong on any rank, or not the same on all.
        RuntimeError: If another rank has died, within the group's timeout.

    Example:
        >>> import torch
        >>> from pseudolabel import distributed
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> distributed.nearest_neighbors(features, 1).indices.flatten()  # of one rank
        tensor([1, 0, 3, 2])
    """
    ranks = Ranks(process_group)

    def check() -> Mapping[str, object]:
        check_floating("features", features, "N, D")
        if features.shape[1] == 0:
            wrong_value("features", "at least one dimension", features)
        check_int("k", k, 1, None)
        check_option("metric", metric, ("cosine", "euclidean"))
        check_flag("include_self", include_self)
        check_int("memory_limit", memory_limit, 1, None)
        kind = f"{features.dtype} of {features.shape[1]} dimensions"
        return {"features": kind, "k": k, "metric": metric, "include_self": include_self}

    ranks.agree(len(features) if isinstance(features, Tensor) and features.ndim else 0, check)
    check_int("k", k, 1, ranks.total - (not include_self), " (the other samples of all ranks)")

    features, others, count = features.detach(), k - include_self, len(features)
    columns = 0 if count else others  # no row, no block: the answer is there
    best = Neighbors(
        torch.empty(count, columns, dtype=torch.int64, device=features.device),
        torch.empty(count, columns, dtype=torch.float64, device=features.device),
    )
    at_once = max(1, memory_limit // (_BYTES_OF_SPLITTING * features.shape[1]))
    for owner, block in ranks.ring(features):
        own_block = owner == ranks.rank
        nearest = min(others, len(block) - own_block)
        if count and nearest > 0:
            found = single.nearest_neighbors(
                block,
                nearest,
                queries=None if own_block else features,
                metric=metric,
                memory_limit=memory_limit,
            )
            worst = best.similarity[:, others - 1 :]
            found = _exactly(features, block, found, worst, metric, at_once)
            best = _first(
                best, found._replace(indices=found.indices + ranks.offsets[owner]), others
            )
    if include_self:
        rows = torch.arange(ranks.own.start, ranks.own.stop, device=features.device)
        own = rows - ranks.own.start
        exact = exactly(features, features, own, own, metric, rows=at_once)
        best = _first(best, Neighbors(rows[:, None], exact[:, None]), k)
    dtype = result_dtype(features)
    similarity = best.similarity.clamp(min=torch.finfo(dtype).min).to(dtype)
    return Neighbors(best.indices, similarity)


def _first(best: Neighbors, more: Neighbors, count: int) -> Neighbors:
    """The first of both, most similar first, ties to the lowest index."""
    indices, order = torch.cat([best.indices, more.indices], dim=1).sort(dim=1)
    similarity = torch.cat([best.similarity, more.similarity], dim=1).gather(1, order)
    similarity, order = sort_descending(similarity)
    return Neighbors(
        indices.gather(1, order)[:, :count].contiguous(), similarity[:, :count].contiguous()
    )


def _exactly(
    features: Tensor, block: Tensor, found: Neighbors, worst: Tensor, metric: str, at_once: int
) -> Neighbors:
    """What a block gives, by index, with float64 similarities: they were rounded on the way.

    What is below the ``worst`` of enough others, ``(N_r, 1)``, even when that is rounded too, is
    not worth a product and becomes minus infinity; ``(N_r, 0)`` while there are not enough.
    """
    indices, order = found.indices.sort(dim=1)
    rounded = found.similarity.gather(1, order)
    floor = worst.to(rounded.dtype) if worst.numel() else -torch.inf
    rows, columns = (rounded >= floor).nonzero(as_tuple=True)
    similarity = torch.full_like(rounded, -torch.inf, dtype=torch.float64)
    similarity[rows, columns] = exactly(
        features, block, rows, indices[rows, columns], metric, rows=at_once
    )
    return Neighbors(indices, similarity)
