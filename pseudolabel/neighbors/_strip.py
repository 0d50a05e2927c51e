"""The scores of some queries that are worth keeping, as tile after tile comes by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pseudolabel.neighbors._filter import Encoded, Filter


class Kept(NamedTuple):
    """Scores with their places: ``(n,)`` each, rows ascending."""

    rows: Tensor
    columns: Tensor
    scores: Tensor

    def table(self, count: int) -> tuple[Tensor, Tensor]:
        """Columns and scores row by row, ``(count, c)``; -1 and ``-inf`` where there are fewer."""
        counts = torch.bincount(self.rows, minlength=count)
        width = int(counts.max()) if len(self.rows) else 0
        place = torch.arange(len(self.rows), device=self.rows.device)
        place = self.rows * width + place - (counts.cumsum(0) - counts)[self.rows]
        columns = self.columns.new_full((count * width,), -1)
        scores = self.scores.new_full((count * width,), -torch.inf)
        columns[place], scores[place] = self.columns, self.scores
        return columns.reshape(count, width), scores.reshape(count, width)

    def where(self, kept: Tensor) -> Kept:
        """Some of the entries."""
        return Kept(*(field[kept] for field in self))


class Strip:
    """A tile's worth of queries, and who could be among the k nearest of each.

    Args:
        first: Position of the first query.
        encoded: The queries as `scores` encodes them.
        guess: ``(B,)``, about the k-th largest score of each. Too low costs time; too high, and
            the query does not settle.
        scores: The filter.
        k: How many neighbours.
        room: Scores kept a query, on average, before they are thinned out.
    """

    def __init__(
        self, first: int, encoded: Encoded, guess: Tensor, scores: Filter, k: int, room: int
    ) -> None:
        self.first, self.encoded, self.filter = first, encoded, scores
        self.kth, self.k, self.room = guess, k, room
        self.limit = scores.floor(guess, encoded.slack)
        self.positive = bool((self.limit > 0).all())
        self.settled = torch.ones_like(guess, dtype=torch.bool)
        self.pieces: list[Kept] = []

    def keep(self, scores: Tensor, column: int, scratch: Tensor) -> None:
        """Takes from ``(B, n)`` scores of the columns from ``column`` on.

        ``scratch`` is a bool tensor of at least ``B n`` places: a new one for every tile, freed
        between what is kept of two tiles, would leave memory full of holes.
        """
        row, place = _where(self._reaching(scores, self.limit.unsqueeze(1), scratch))
        self._append(row, place + column, scores[row, place])

    def keep_transposed(self, scores: Tensor, column: int, scratch: Tensor) -> None:
        """The same from ``(n, B)`` scores, without turning them over."""
        place, row = _where(self._reaching(scores, self.limit, scratch))
        self._append(row, place + column, scores[place, row])

    def thin_out(self) -> Kept:
        """Raises the limits by what is known by now, and drops and returns accordingly."""
        count = len(self.kth)
        rows, columns, scores = (torch.cat(fields) for fields in zip(*self.pieces, strict=True))
        rows, order = rows.long().sort(stable=True)
        kept = Kept(rows, columns[order], scores[order])
        swamped = torch.bincount(rows, minlength=count) > 8 * self.room
        if swamped.any():
            kept = kept.where(~swamped[rows])
        _, table = kept.table(count)
        kth = torch.full_like(self.kth, -torch.inf)
        if table.shape[1] >= self.k:
            kth = table.topk(self.k, dim=1).values[:, -1]
        self.settled = kth >= self.kth
        self.kth = torch.maximum(kth, self.kth)
        self.limit = self.filter.floor(self.kth, self.encoded.slack)
        self.limit[swamped] = torch.inf
        kept = kept.where(kept.scores >= self.limit[kept.rows])
        self.pieces = [Kept(kept.rows.int(), kept.columns, kept.scores)]
        return kept

    def _reaching(self, scores: Tensor, limit: Tensor, scratch: Tensor) -> Tensor:
        hits = scratch[: scores.numel()].view(scores.shape)
        if scores.dtype == torch.bfloat16 and self.positive:
            # Above 0, floats are in the order of their bits, which are compared twice as fast.
            scores, limit = scores.view(torch.int16), limit.view(torch.int16)
        return torch.ge(scores, limit, out=hits)

    def _append(self, rows: Tensor, columns: Tensor, scores: Tensor) -> None:
        self.pieces.append(Kept(rows.int(), columns.int(), scores))
        if sum(len(piece.rows) for piece in self.pieces) > self.room * len(self.kth):
            self.thin_out()


def _where(hits: Tensor) -> tuple[Tensor, Tensor]:
    """``hits.nonzero(as_tuple=True)`` of few hits: eight places are looked at as one integer."""
    width = hits.shape[1]
    if hits.numel() % 8 == 0:
        words = hits.view(-1).view(torch.int64).nonzero()[:, 0]
        word, byte = hits.view(-1, 8)[words].nonzero(as_tuple=True)
        places = words[word] * 8 + byte
        return places // width, places % width
    row, column = hits.nonzero(as_tuple=True)
    return row, column
