"""All pairs by rounded products: whoever can be among the k nearest of a sample.

A few columns, spread over all, tell each sample about how large the score of its k-th neighbour is.
Then tile by tile the scores above that are kept; where samples are compared among themselves, a
tile serves its columns too and half the tiles do. Samples whose guess was off are searched again
row by row, with the k-th score itself in hand; so is everybody where there are few samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pseudolabel.neighbors._filter import Filter
from pseudolabel.neighbors._plan import Plan
from pseudolabel.neighbors._source import Source
from pseudolabel.neighbors._strip import Kept, Strip

_PRODUCTS_A_CANDIDATE = 120_000  # that few bits save while float64 scores one candidate more


class Candidates(NamedTuple):
    """Whoever can be among the k nearest of some samples.

    Attributes:
        rows: int64 ``(B,)``, positions among the queries.
        indices: int64 ``(B, c)`` candidates, -1 where there are fewer.
        certain: bool ``(B, c)``, who is among the k nearest for certain.
        listed: False where there were too many to list.
    """

    rows: Tensor
    indices: Tensor
    certain: Tensor
    listed: bool = True

    def of(self, kept: Tensor) -> Candidates:
        """The candidates of some of the queries."""
        return Candidates(self.rows[kept], self.indices[kept], self.certain[kept], self.listed)


class Sweep:
    """Finds candidates for every query.

    Args:
        source: The rows to search in.
        asked: The rows to search for: the source itself, whose samples are not their own
            neighbours, or others.
        scores: The rounded products and their bound.
        k: How many neighbours.
        plan: Sizes.
        advance: Called after every tile.
    """

    def __init__(
        self,
        source: Source,
        asked: Source,
        scores: Filter,
        k: int,
        plan: Plan,
        advance: Callable[[], object],
    ) -> None:
        self.source, self.asked, self.own = source, asked, asked is source
        self.filter, self.k, self.plan, self.advance = scores, k, plan, advance
        self._copy: list[Tensor] | None = None

    def by_rows(self, queries: Tensor) -> Iterator[Candidates]:
        """Candidates of some queries, from all their scores at once."""
        for rows in torch.split(queries, self.plan.wide_rows):
            encoded = self.filter.encode(self.asked[rows])
            scores = torch.cat(
                [self.filter.scores(encoded.rows, columns) for columns in self._columns()], dim=1
            )
            if self.own:
                scores.scatter_(1, rows.unsqueeze(1), -torch.inf)
            yield from self.among(rows, scores, encoded.slack)
            self.advance()

    def among(self, rows: Tensor, scores: Tensor, slack: Tensor) -> Iterator[Candidates]:
        """Candidates among some columns, given all scores of ``(B, n)``, -inf at the own."""
        kth = scores.topk(self.k, dim=1).values[:, -1]
        near = scores >= self.filter.floor(kth, slack).unsqueeze(1)
        row, column = near.nonzero(as_tuple=True)
        crowded = torch.bincount(row, minlength=len(rows)) > self.plan.crowd
        kept = Kept(row, column, scores[row, column]).where(~crowded[row])
        yield self._candidates(kept, rows, kth, slack, ~crowded)
        if crowded.any():
            nobody = rows.new_empty(int(crowded.sum()), 0)
            yield Candidates(rows[crowded], nobody, nobody.bool(), listed=False)

    def by_tiles(self, start: int, stop: int) -> Iterator[Candidates]:
        """Candidates of the queries from ``start`` to ``stop``, which is a group."""
        tile = self.plan.tile
        scratch = self.sampled.new_empty(tile * max(tile, self.plan.sample))
        hits = scratch.new_empty(tile * tile, dtype=torch.bool)
        strips = [
            self._strip(first, min(first + tile, stop), scratch)
            for first in range(start, stop, tile)
        ]
        for first in range(0, len(self.source), tile):
            mirror = None
            if self.own and start <= first < stop:
                mirror = strips[(first - start) // tile]
                columns = self.filter.mirrored(mirror.encoded.rows)
            else:
                block = self.source[first : first + tile]
                columns = self.filter.mirrored(self.filter.encode(block).rows)
            for strip in strips:
                if mirror is not None and strip.first > first:
                    break  # those came with the mirrored tile
                scores = self._scores(strip.encoded.rows, columns, scratch)
                if strip is mirror:
                    scores.fill_diagonal_(-torch.inf)
                strip.keep(scores, first, hits)
                if mirror is not None and strip is not mirror:
                    mirror.keep_transposed(scores, strip.first, hits)
                self.advance()
        unsettled = []
        while strips:
            strip = strips.pop(0)
            kept = strip.thin_out()
            rows = torch.arange(strip.first, strip.first + len(strip.kth), device=kept.rows.device)
            unsettled.append(rows[~strip.settled])
            kept = kept.where(strip.settled[kept.rows])
            yield self._candidates(kept, rows, strip.kth, strip.encoded.slack, strip.settled)
        if any(len(rows) for rows in unsettled):
            yield from self.by_rows(torch.cat(unsettled))

    def _columns(self) -> Iterator[Tensor]:
        """Encoded rows of the source, a block at a time, from a copy if there is room for one."""
        if self._copy is None:
            size, total = self.plan.tile, len(self.source)
            blocks = (self.source[first : first + size] for first in range(0, total, size))
            columns = (self.filter.mirrored(self.filter.encode(block).rows) for block in blocks)
            if not self.plan.cached:
                return columns
            self._copy = list(columns)
        return iter(self._copy)

    @cached_property
    def sampled(self) -> Tensor:
        """Columns that the k-th score is guessed from."""
        places = torch.arange(self.plan.sample, device=self.source.device)
        places = places * len(self.source) // self.plan.sample
        return self.filter.mirrored(self.filter.encode(self.source[places]).rows)

    def pays(self) -> bool:
        """Whether products of few bits leave fewer candidates than float32 would take time."""
        encoded = self.filter.encode(self.asked[: self.plan.tile])
        guess = self.filter.scores(encoded.rows, self.sampled)
        kth = guess.topk(self.plan.rank, dim=1).values[:, -1]
        near = guess >= self.filter.floor(kth, encoded.slack).unsqueeze(1)
        more = self.k * (near.sum(1, dtype=torch.float32).mean().item() / self.plan.rank - 1)
        return more * _PRODUCTS_A_CANDIDATE < len(self.source) * self.source.dimension

    def _scores(self, rows: Tensor, columns: Tensor, scratch: Tensor) -> Tensor:
        out = scratch[: len(rows) * len(columns)].view(len(rows), len(columns))
        return self.filter.scores(rows, columns, out=out)

    def _strip(self, first: int, stop: int, scratch: Tensor) -> Strip:
        encoded = self.filter.encode(self.asked[first:stop])
        guess = self._scores(encoded.rows, self.sampled, scratch)
        kth = guess.topk(self.plan.rank, dim=1).values[:, -1].contiguous()
        return Strip(first, encoded, kth, self.filter, self.k, self.plan.room)

    def _candidates(
        self, kept: Kept, rows: Tensor, kth: Tensor, slack: Tensor, listed: Tensor
    ) -> Candidates:
        """Of those rows that are listed."""
        indices, scores = kept.table(len(rows))
        indices, scores = indices[listed], scores[listed]
        certain = self.filter.certain(scores, kth[listed], slack[listed])
        return Candidates(rows[listed], indices.long(), certain)
