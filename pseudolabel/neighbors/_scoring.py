r"""The order of a query's candidates, to the last tie, for about one float64 product each.

A float64 product in any order of summation is off by at most some :math:`\varepsilon`. That is
enough to order two candidates more than :math:`2\varepsilon` apart, and to report a similarity that
rounds to the same float32 at both ends of :math:`\pm\varepsilon`. Whatever it is not enough for is
computed without rounding, by `pseudolabel._numerics`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pseudolabel._numerics import similarity_matrix, similarity_pairs, split_rows
from pseudolabel.neighbors._source import Source

_PAIR_ELEMENTS = 2**20  # features multiplied pair by pair at a time: they stay in the cache


class Scorer:
    """Scores and orders candidates among the rows of a source."""

    def __init__(self, source: Source, metric: str) -> None:
        self.source, self.metric = source, metric
        self.norms = torch.cat([_norms(block) for block in source.blocks()])

    def rank(self, queries: Tensor, indices: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """Orders candidates by similarity, descending, then by index.

        Args:
            queries: ``(B, D)``.
            indices: int64 ``(B, c)`` candidates; one that is listed twice counts once.
            barred: bool ``(B, c)``, which are no candidates.

        Returns:
            Indices and float64 similarities ``(B, c)``; those that are no candidates come last,
            with ``-inf``.
        """
        indices, by_index = indices.sort(dim=-1, stable=True)
        barred = barred.gather(-1, by_index)
        barred[:, 1:] |= indices[:, 1:] == indices[:, :-1]
        picked = indices.clamp(min=0)
        if torch.float64 in (queries.dtype, self.source.dtype):
            similarity = self.exact(queries, picked)
            return _sorted(indices, similarity.masked_fill(barred, -torch.inf))
        similarity, error = self._rounded(queries, picked)
        similarity = similarity.masked_fill(barred, -torch.inf)
        doubtful = self._doubtful(similarity, error) & ~barred
        row, column = doubtful.nonzero(as_tuple=True)
        decided = self.exact(queries[row], picked[row, column].unsqueeze(-1))
        similarity[row, column] = decided.squeeze(-1)
        return _sorted(indices, similarity)

    def exact(self, queries: Tensor, indices: Tensor) -> Tensor:
        """Similarities of ``(B, D)`` queries to rows ``(B, c)`` of their own, without rounding."""
        size = max(1, _PAIR_ELEMENTS // (indices.shape[1] * self.source.dimension))
        scores = [indices.new_empty(0, indices.shape[1], dtype=torch.float64)]
        for query, index in zip(
            torch.split(queries, size), torch.split(indices, size), strict=True
        ):
            found = split_rows(self.source[index.flatten()], self.metric)
            places = torch.arange(index.numel(), device=index.device).reshape(index.shape)
            scores.append(similarity_pairs(split_rows(query, self.metric), found[places]))
        return torch.cat(scores)

    def exhaustive(self, queries: Tensor, own: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest of all rows, without rounding: for ties that no candidates could settle."""
        rows = split_rows(queries, self.metric)
        blocks = self.source.blocks()
        similarity = torch.cat(
            [similarity_matrix(rows, split_rows(block, self.metric)) for block in blocks], dim=-1
        )
        if own is not None:
            similarity.scatter_(-1, own.unsqueeze(-1), -torch.inf)
        kth = similarity.topk(k, dim=-1).values[:, -1:]
        nearer, level = similarity > kth, similarity == kth
        missing = k - nearer.sum(-1, keepdim=True)
        taken = nearer | (level & (level.cumsum(-1) <= missing))
        indices = taken.nonzero()[:, 1].reshape(-1, k)
        return _sorted(indices, similarity.gather(-1, indices))

    def _rounded(self, queries: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities in float64 as they come, and how far they may be off."""
        size = max(1, _PAIR_ELEMENTS // (indices.shape[1] * self.source.dimension))
        scores = []
        for query, index in zip(
            torch.split(queries.double(), size), torch.split(indices, size), strict=True
        ):
            found = self.source[index.flatten()].reshape(*index.shape, -1).double()
            if self.metric == "cosine":
                scores.append((found @ query.unsqueeze(-1)).squeeze(-1))
            else:
                scores.append(0.0 - torch.linalg.vector_norm(found - query.unsqueeze(1), dim=-1))
        similarity = torch.cat(scores)
        roundoff = (4 * self.source.dimension + 16) * 2.0**-53
        if self.metric == "euclidean":
            return similarity, roundoff * similarity.abs()
        norms = _norms(queries).unsqueeze(-1) * self.norms[indices]
        similarity = similarity / torch.where(norms > 0, norms, 1)
        return similarity, torch.full_like(similarity, roundoff)

    def _doubtful(self, similarity: Tensor, error: Tensor) -> Tensor:
        """Which similarities leave an order or a float32 open."""
        doubtful = (similarity - error).float() != (similarity + error).float()
        values, order = similarity.sort(dim=-1, descending=True)
        error = error.gather(-1, order)
        close = values[:, :-1] - values[:, 1:] <= error[:, :-1] + error[:, 1:]
        touched = torch.zeros_like(doubtful)
        touched[:, :-1] |= close
        touched[:, 1:] |= close
        return doubtful | torch.zeros_like(doubtful).scatter_(-1, order, touched)


def _norms(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x.double(), dim=-1)
    return norms


def _sorted(indices: Tensor, similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts candidates that come in index order by similarity, descending."""
    similarity, order = similarity.sort(dim=-1, descending=True, stable=True)
    return indices.gather(-1, order), similarity
