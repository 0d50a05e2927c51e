"""Exact neighbours of sharded samples: blocks go round a ring, and the best of each are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from pseudolabel import neighbors as single
from pseudolabel._checks import check_flag, check_floating, check_int, check_option, wrong_value
from pseudolabel._numerics import result_dtype, similarity_pairs, sort_descending, split_rows
from pseudolabel.distributed._ranks import Ranks
from pseudolabel.neighbors import DEFAULT_MEMORY
from pseudolabel.types import Neighbors

_PAIR_ELEMENTS = 2**17  # of the rows of pairs at a time: what the caches hold
_BYTES_OF_SPLITTING = 64  # an element of the rows being split


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
            pairs = partial(_of_pairs, features, block, metric=metric, memory_limit=memory_limit)
            exact = _exactly(pairs, found, best.similarity[:, others - 1 :])
            best = _first(best, Neighbors(found.indices + ranks.offsets[owner], exact), others)
    if include_self:
        rows = torch.arange(ranks.own.start, ranks.own.stop, device=features.device)
        own = rows - ranks.own.start
        exact = _of_pairs(features, features, own, own, metric=metric, memory_limit=memory_limit)
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


def _exactly(pairs: Callable[[Tensor, Tensor], Tensor], found: Neighbors, worst: Tensor) -> Tensor:
    """Float64 similarities ``(N_r, c)`` of what a block gives, which was rounded on the way.

    What is below the ``worst`` of enough others, ``(N_r, 1)``, even when that is rounded too, is
    not worth a product and becomes minus infinity; ``(N_r, 0)`` while there are not enough.
    """
    floor = worst.to(found.similarity.dtype) if worst.numel() else -torch.inf
    rows, columns = (found.similarity >= floor).nonzero(as_tuple=True)
    exact = torch.full_like(found.similarity, -torch.inf, dtype=torch.float64)
    exact[rows, columns] = pairs(rows, found.indices[rows, columns])
    return exact


def _of_pairs(
    a: Tensor, b: Tensor, i: Tensor, j: Tensor, *, metric: str, memory_limit: int
) -> Tensor:
    """Float64 similarities ``(P,)`` of the rows ``a[i]`` to ``b[j]``, with i in order."""
    similarity = a.new_empty(len(i), dtype=torch.float64)
    size = max(1, memory_limit // (_BYTES_OF_SPLITTING * b.shape[1]))
    for first in range(0, len(b), size):
        rows = split_rows(b[first : first + size], metric)
        here = ((j >= first) & (j < first + size)).nonzero()[:, 0]
        for some in torch.split(here, max(1, _PAIR_ELEMENTS // b.shape[1])):
            own, place = torch.unique_consecutive(i[some], return_inverse=True)
            left, right = split_rows(a[own], metric)[place], rows[j[some] - first]
            similarity[some] = similarity_pairs(left, right[:, None]).squeeze(1)
    return similarity
