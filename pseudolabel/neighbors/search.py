"""Exact nearest neighbours: a fast float32 pass proposes, float64 decides."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pseudolabel._checks import check_flag, check_int, check_option, wrong_value
from pseudolabel.neighbors._filter import Filter, make_filter
from pseudolabel.neighbors._scoring import Scorer
from pseudolabel.neighbors._source import Source
from pseudolabel.neighbors.backends import Candidates, NeighborBackend, make_candidates
from pseudolabel.types import Neighbors

_BLOCK_SCORES = 2**25  # scores held at a time when no block_size is given: 128 MiB
_MARGIN = 16  # candidates beyond k, so that near ties rarely need the exhaustive search


@torch.no_grad()
def nearest_neighbors(
    features: Tensor | np.ndarray,
    k: int,
    *,
    queries: Tensor | np.ndarray | None = None,
    metric: Literal["cosine", "euclidean"] = "cosine",
    include_self: bool = False,
    backend: str | NeighborBackend = "auto",
    block_size: int | None = None,
) -> Neighbors:
    """Finds the k nearest samples of every sample, exactly and reproducibly.

    Neighbours come most similar first, ties to the lowest index. Similarities that float32 cannot
    tell apart are compared in float64, by a product that does not depend on the block: block size
    and backend never show in the answer. Memory beyond input and output is ``O(block_size * N)``
    and a float32 copy of the features.

    Args:
        features: ``(N, D)``: a tensor on any device, a NumPy array, or a memory-mapped one. Rows
            need not be normalised; under the cosine a zero row has similarity 0 to everything.
        k: How many neighbours, in ``[1, N - 1]``; up to N with ``queries`` or ``include_self``.
        queries: ``(Q, D)`` other samples whose neighbours among ``features`` are wanted.
        metric: ``"cosine"`` or ``"euclidean"``; the similarity is the cosine, or minus the
            distance.
        include_self: False leaves a sample out of its own neighbours, by its index, so that a
            duplicate still counts; True gives it one of the k places, always.
        backend: ``"torch"`` (``"auto"`` means it), ``"faiss"`` (exact, through faiss-cpu or
            faiss-gpu), or a `NeighborBackend`, which is as exact as its candidates.
        block_size: Queries compared at a time; None bounds a block to 128 MiB.

    Returns:
        Neighbors of int64 ``indices (N, k)`` and float32 ``similarity (N, k)`` (float64 for float64
        features), on the features' device; ``(Q, k)`` with ``queries``.

    Raises:
        TypeError: If an input is neither a floating-point tensor nor such an array.
        ValueError: If a shape, ``k`` or an option is out of range, a value is not finite, or
            ``queries`` and ``include_self`` are both asked for.
        ImportError: If ``"faiss"`` is asked for and not installed.

    Example:
        >>> import torch
        >>> from pseudolabel import nearest_neighbors
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> nearest_neighbors(features, 1).indices.flatten()
        tensor([1, 0, 3, 2])
    """
    source = Source("features", features)
    check_flag("include_self", include_self)
    if queries is not None and include_self:
        wrong_value("include_self", "False where queries are given", include_self)
    asked = source if queries is None else Source("queries", queries)
    if asked.device != source.device:
        wrong_value("queries", f"device {source.device}, like features", str(asked.device))
    if asked.dimension != source.dimension:
        wrong_value("queries", f"shape (Q, {source.dimension}), like features", queries)
    without_self = queries is None and not include_self
    k = check_int("k", k, 1, len(source) - without_self, " (the other samples)")
    check_option("metric", metric, ("cosine", "euclidean"))
    if block_size is not None:
        check_int("block_size", block_size, 1, None)

    search = _Search(source, asked, metric, own=queries is None, backend=backend, wanted=k)
    size = block_size or max(1, _BLOCK_SCORES // len(source))
    found = [
        search.block(start, min(start + size, len(asked)), k, include_self=include_self)
        for start in range(0, len(asked), size)
    ]
    dtype = torch.float64 if source.dtype == torch.float64 else torch.float32
    similarity = torch.cat([similarity for _, similarity in found])
    similarity = similarity.clamp(
        min=torch.finfo(dtype).min
    )  # distances beyond float32 stay finite
    return Neighbors(torch.cat([indices for indices, _ in found]), similarity.to(dtype))


class _Search:
    """What one call of `nearest_neighbors` shares between its blocks."""

    def __init__(
        self,
        source: Source,
        asked: Source,
        metric: str,
        *,
        own: bool,
        backend: str | NeighborBackend,
        wanted: int,
    ) -> None:
        self.asked, self.own, self.total = asked, own, len(source)
        self.scorer = Scorer(source, metric)
        self.filter: Filter = make_filter(source.blocks, metric, source.device)
        rows = torch.empty(self.total, source.dimension, device=source.device)
        for start, block in source.enumerated_blocks():
            rows[start : start + len(block)] = self.filter.rows(block)
        self.count = min(len(source), wanted + 1 + _MARGIN)
        self.candidates: Candidates = make_candidates(backend, rows, metric, self.count)

    def block(self, start: int, stop: int, k: int, *, include_self: bool) -> tuple[Tensor, Tensor]:
        """Indices and float64 similarities ``(stop - start, k)``."""
        queries = self.asked[start:stop]
        own = torch.arange(start, stop, device=queries.device) if self.own else None
        indices, similarity = self._others(queries, own, k - include_self)
        if include_self:
            assert own is not None
            indices = torch.cat([indices, own.unsqueeze(-1)], dim=-1)
            return self.scorer.rank(queries, indices, torch.zeros_like(indices, dtype=torch.bool))
        return indices, similarity

    def _others(self, queries: Tensor, own: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest, the sample itself left out."""
        rows = self.filter.rows(queries)
        candidates = self.candidates.search(rows, self.count)
        candidates = pad(candidates, (0, max(0, k - candidates.shape[1])), value=-1)
        barred = candidates < 0
        if own is not None:
            barred |= candidates == own.unsqueeze(-1)
        indices, similarity = self.scorer.rank(queries, candidates, barred)
        if k == 0:
            return indices[:, :0], similarity[:, :0]
        settled = similarity[:, k - 1] > -torch.inf
        if self.candidates.exact and self.count < self.total:
            worst = similarity.masked_fill(similarity == -torch.inf, torch.inf).amin(-1)
            settled &= self.filter.settles(rows, similarity[:, k - 1], worst)
        indices, similarity = indices[:, :k].contiguous(), similarity[:, :k].contiguous()
        open_rows = (~settled).nonzero()[:, 0]
        for rest in torch.split(
            open_rows,
            max(
                1,
                _BLOCK_SCORES // 8 // self.total,  # float64, and some copies
            ),
        ):
            exhaustive = self.scorer.exhaustive(
                queries[rest], None if own is None else own[rest], k
            )
            indices[rest], similarity[rest] = exhaustive
        return indices, similarity
