r"""The order of a query's candidates, to the last tie, for about one float64 product each.

A float64 product in any order of summation is off by at most some :math:`\varepsilon`. That is
enough to order two candidates more than :math:`2\varepsilon` apart, and to report a similarity that
rounds to the same float32 at both ends of :math:`\pm\varepsilon`. Whatever it is not enough for is
computed without rounding, by `pseudolabel._numerics`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from pseudolabel._numerics import similarity_matrix, split_rows
from pseudolabel._sampled import products_of_pairs
from pseudolabel.neighbors._filter import Frame
from pseudolabel.neighbors._pairs import exactly
from pseudolabel.neighbors._source import Source

_DOUBLES_OF_SPLITTING = 8  # an element of the rows being split
_MANY_DOUBTS = 256  # of one query, or one row in 32: then it is compared with all rows


class Scorer:
    """Scores and orders candidates among the rows of a source.

    Args:
        source: The rows searched in.
        asked: The rows searched for; the source itself, or others.
        frame: The rows that products are taken of.
        include_self: Whether a sample of the source is one of its own neighbours.
        cached: Whether there is room for a float64 copy of the source.
        elements: Of float64 rows multiplied at a time.
    """

    def __init__(
        self,
        source: Source,
        asked: Source,
        frame: Frame,
        *,
        include_self: bool,
        cached: bool,
        elements: int,
    ) -> None:
        self.source, self.asked, self.own = source, asked, asked is source
        self.frame, self.metric, self.include_self = frame, frame.metric, include_self
        self.cached, self.elements = cached, elements
        self.precise = torch.float64 in (source.dtype, asked.dtype)
        self._copy: Tensor | None = None
        self.norms = torch.cat([_norms(self._rows(block)) for block in source.blocks()])

    def nearest(self, rows: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest of each query's candidates, by similarity, descending, then by index.

        Args:
            rows: int64 ``(B,)``, positions of the queries.
            indices: int64 ``(B, c)`` candidates, each listed once, the sample itself never; -1
                for none.
            k: At most as many as each query has candidates.

        Returns:
            Indices and float64 similarities ``(B, k)``.
        """
        own = rows.unsqueeze(1)
        if self.include_self:
            indices = torch.cat([indices, own], dim=1)
        indices = indices.sort(dim=1).values
        barred = indices < 0
        queries = self.asked[rows]
        similarity, error = self._rounded(queries, indices, barred)
        doubtful = self._doubtful(similarity, error, k) & ~barred
        if self.include_self:
            doubtful |= indices == own
        many = doubtful.sum(1) > max(_MANY_DOUBTS, len(self.source) // 32)
        row, column = (doubtful & ~many.unsqueeze(1)).nonzero(as_tuple=True)
        rows_at_once = max(1, self.elements // _DOUBLES_OF_SPLITTING // self.source.dimension)
        similarity[row, column] = exactly(
            queries, self.source, row, indices[row, column], self.metric, rows=rows_at_once
        )
        similarity, order = similarity.sort(dim=1, descending=True, stable=True)
        found = self._first(own, indices.gather(1, order), similarity, k)
        if many.any():
            for field, better in zip(found, self.nearest_of_all(rows[many], k), strict=True):
                field[many] = better
        return found

    def nearest_of_all(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest of all rows, without rounding: where candidates are many or unknown."""
        size = max(1, self.elements // 16 // len(self.source))
        pieces = [self._nearest_of_all(some, k) for some in torch.split(rows, size)]
        indices, similarity = (torch.cat(fields) for fields in zip(*pieces, strict=True))
        return indices, similarity

    def _nearest_of_all(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        queries, own = split_rows(self.asked[rows], self.metric), rows.unsqueeze(1)
        similarity = torch.cat(
            [
                similarity_matrix(queries, split_rows(block, self.metric))
                for block in self.source.blocks()
            ],
            dim=1,
        )
        if self.own and not self.include_self:
            similarity.scatter_(1, own, -torch.inf)
        kth = similarity.topk(k, dim=1).values[:, -1:]
        nearer, level = similarity > kth, similarity == kth
        taken = nearer | (level & (level.cumsum(1) <= k - nearer.sum(1, keepdim=True)))
        if self.include_self:
            taken.scatter_(1, own, True)
        width = int(taken.sum(1).max())
        indices = taken.byte().topk(width, dim=1).indices.sort(dim=1).values
        similarity = similarity.gather(1, indices).masked_fill(
            ~taken.gather(1, indices), -torch.inf
        )
        similarity, order = similarity.sort(dim=1, descending=True, stable=True)
        return self._first(own, indices.gather(1, order), similarity, k)

    def _first(
        self, own: Tensor, indices: Tensor, similarity: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """The first k in order, of which the sample itself may have to be one."""
        if not self.include_self:
            return indices[:, :k].contiguous(), similarity[:, :k].contiguous()
        itself = (indices == own) & (similarity > -torch.inf)
        taken = itself | ((~itself).cumsum(1) < k)
        return indices[taken].reshape(-1, k), similarity[taken].reshape(-1, k)

    def _rounded(self, queries: Tensor, indices: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities in float64 as they come, and how far they may be off."""
        left = self._rows(queries)
        dots = self._products(left, indices, barred)
        roundoff = (4 * self.source.dimension + 32) * 2.0**-53
        norms, others = _norms(left).unsqueeze(1), self.norms[indices.clamp(min=0)]
        if self.metric == "cosine":
            scale = norms * others
            similarity = dots / torch.where(scale > 0, scale, 1)
            error = torch.full_like(similarity, roundoff)
        else:
            squares = norms.square() + others.square() - 2 * dots
            off = (roundoff * (norms + others) + 4 * self.frame.error) * (norms + others)
            off = off + 4 * self.frame.error**2
            similarity = 0.0 - self.frame.scale * squares.clamp(min=0).sqrt()
            error = (squares.clamp(min=0) + off).sqrt() - (squares - off).clamp(min=0).sqrt()
            error = self.frame.scale * error * (1 + 2.0**-40)
        return similarity.masked_fill(barred, -torch.inf), error.masked_fill(barred, 0)

    def _products(self, left: Tensor, indices: Tensor, barred: Tensor) -> Tensor:
        """Products of ``(B, D)`` rows with rows ``(B, c)`` of their own."""
        dots = torch.zeros(indices.shape, dtype=torch.float64, device=indices.device)
        if left.device.type != "cpu":  # cuda
            size = max(1, self.elements // (indices.shape[1] * self.source.dimension))
            for start in range(0, len(left), size):
                index = indices[start : start + size].clamp(min=0)
                found = self._rows(self.source[index.flatten()]).reshape(*index.shape, -1)
                dots[start : start + size] = (found @ left[start : start + size, :, None])[..., 0]
            return dots
        # Block by block of the source, so that its rows stay in the cache.
        size = max(1, self.elements // self.source.dimension)
        row, place = (~barred).nonzero(as_tuple=True)
        wanted, listed = indices[row, place], None
        if not self.cached:  # then only those that are candidates are read
            listed, wanted = torch.unique(wanted, return_inverse=True)
        block, order = (wanted // size).sort(stable=True)
        row, place, wanted = row[order], place[order], wanted[order]
        ends = torch.bincount(block).cumsum(0).tolist()
        for number, (first, last) in enumerate(pairwise([0, *ends])):
            if first < last:
                some, start = slice(first, last), number * size
                right = self._block(start, size, listed)
                products = products_of_pairs(left, right, row[some], wanted[some] - start)
                dots[row[some], place[some]] = products
        return dots

    def _block(self, start: int, size: int, listed: Tensor | None) -> Tensor:
        """Rows of the source, or of those listed; from a copy if there is room for one."""
        if listed is not None:
            return self._rows(self.source[listed[start : start + size]])
        if self._copy is None:
            self._copy = torch.cat([self._rows(block) for block in self.source.blocks()])
        return self._copy[start : start + size]

    def _rows(self, x: Tensor) -> Tensor:
        """Rows whose products neither overflow nor cancel; float32 rows are safe as they are."""
        if self.metric == "cosine" and not self.precise:
            return x.double()
        return self.frame.rows(x)

    def _doubtful(self, similarity: Tensor, error: Tensor, k: int) -> Tensor:
        """Which similarities leave the order of the first k open, or what is reported of them."""
        values, order = similarity.sort(dim=1, descending=True)
        off = error.gather(1, order)
        touched = torch.zeros_like(similarity, dtype=torch.bool)
        close = values[:, :-1] - values[:, 1:] <= off[:, :-1] + off[:, 1:]
        touched[:, :-1] |= close
        touched[:, 1:] |= close
        if self.precise:  # float64 is reported
            touched[:, :k] = True
        else:
            touched |= (values - off).float() != (values + off).float()
        touched &= values + off >= values[:, k - 1 : k] - off[:, k - 1 : k]
        return torch.zeros_like(touched).scatter_(1, order, touched)


def _norms(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norms
