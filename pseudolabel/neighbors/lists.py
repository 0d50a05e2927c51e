"""Approximate search: a sample is compared with the rows of the clusters around it alone.

The clusters come from faiss, and how many of them a sample needs from the recall that is asked for,
measured on some samples whose exact neighbours are searched. Samples of one cluster go together:
their few rows are one matrix product, whose bound finds the candidates as in an exact search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pseudolabel._checks import check_int, check_real
from pseudolabel._numerics import as_fraction
from pseudolabel.neighbors._source import Source
from pseudolabel.neighbors._sweep import Candidates, Sweep
from pseudolabel.neighbors.backends import import_faiss

_POINTS_A_LIST = 40  # that k-means is trained on
_ROUNDS = 8  # of k-means
_LISTS_A_KIND = 4
_ELEMENTS = 2**18  # of float64 rows at a time
TOGETHER = 512  # queries that are compared with the same lists
_MOST_PROBES = 32  # lists a query may ask for
_TRIALS = (12, 48)  # strips, and queries of each, that the recall is measured on


class RecallReport(NamedTuple):
    """What an approximate search was measured to find.

    Attributes:
        recall: Share of the exact k nearest that were among the rows compared.
        target: What was asked for.
        lists: How many clusters there are.
        probes: How many of them a group of samples is compared with: those it asks for most.
        compared: Share of all pairs that is compared.
        queries: How many samples the recall was measured on.
    """

    recall: float
    target: float
    lists: int
    probes: int
    compared: float
    queries: int


class InvertedLists:
    """A backend that trades recall for time; needs faiss.

    Args:
        recall: The share of the k nearest to find, in (0, 1]; the smallest number of lists that
            reaches it on a sample is taken, or all of them if none does.
        lists: How many clusters; None takes about twice the root of N.
        seed: Of k-means.

    Attributes:
        report: A RecallReport of the latest search, None before.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from pseudolabel import InvertedLists, nearest_neighbors
        >>> features = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
        >>> backend = InvertedLists(recall=0.9)
        >>> found = nearest_neighbors(features, 10, backend=backend)
        >>> backend.report.recall >= 0.9
        True
    """

    def __init__(self, recall: float = 0.98, *, lists: int | None = None, seed: int = 0) -> None:
        self.recall = check_real("recall", recall, low_open=True)
        self.lists = None if lists is None else check_int("lists", lists, 1, None)
        self.seed = check_int("seed", seed, 0, None)
        self.report: RecallReport | None = None
        import_faiss()

    def __repr__(self) -> str:
        return f"InvertedLists(recall={self.recall}, lists={self.lists}, seed={self.seed})"


class ListSweep:
    """Finds candidates in the lists around each query.

    Args:
        sweep: The search through all rows: its sources, filter and sizes, and the way out where
            lists do not do.
        nearest: Orders candidates exactly, to measure the recall by.
        backend: What is asked for; gets the report.
    """

    def __init__(
        self,
        sweep: Sweep,
        nearest: Callable[[Candidates], tuple[Tensor, Tensor]],
        backend: InvertedLists,
    ) -> None:
        self.sweep, self.source, self.asked = sweep, sweep.source, sweep.asked
        total = len(self.source)
        self.count = min(backend.lists or math.ceil(2 * math.sqrt(total)), total)
        size = min(total, _POINTS_A_LIST * self.count)
        places = torch.arange(size, device=self.source.device) * total // size
        centres = self._clusters(self._rows(self.source[places]), self.count, backend.seed)
        # Lists that are alike get numbers that are: those searched together then share lists.
        kinds = self._clusters(centres, math.ceil(self.count / _LISTS_A_KIND), backend.seed)
        centres = centres[self._nearest(kinds, centres, 1)[:, 0].sort(stable=True).indices]
        self.asked_lists = self._probes(centres, self.asked, min(self.count, _MOST_PROBES))
        own = self.asked_lists if sweep.own else self._probes(centres, self.source, 1)
        device = self.source.device
        self.list_of = own[:, 0].long().to(device)
        self.sorted_lists, self.order = self.list_of.sort(stable=True)
        # Queries of one list are searched together.
        self.queries = self.asked_lists[:, 0].sort(stable=True).indices.to(device)
        self._copy: Tensor | None = None
        if (
            total * (self.source.dimension + 6) * sweep.filter.dtype.itemsize
            <= sweep.plan.memory // 2
        ):
            blocks = torch.split(torch.arange(total, device=device), sweep.plan.tile)
            self._copy = torch.cat([self._encode(block) for block in blocks])
        self.report = backend.report = self._tune(nearest, backend)
        self.probes = self.report.probes

    def candidates(self, start: int, stop: int) -> Iterator[Candidates]:
        """Candidates of the queries from ``start`` to ``stop`` in the order of the lists."""
        for rows in torch.split(self.queries[start:stop], TOGETHER):
            columns = self._compared(rows, self.probes)
            if len(columns) <= self.sweep.k:
                yield from self.sweep.by_rows(rows)
                continue
            encoded = self.sweep.filter.encode(self.asked[rows])
            scores = self.sweep.filter.scores(encoded.rows, self._encode(columns))
            found = self.order[columns]
            if self.sweep.own:
                scores.masked_fill_(found == rows.unsqueeze(1), -torch.inf)
            for some in self.sweep.among(rows, scores, encoded.slack):
                named = torch.where(some.indices < 0, -1, found[some.indices.clamp(min=0)])
                yield some._replace(indices=named)
            self.sweep.advance()

    def _clusters(self, rows: Tensor, count: int, seed: int) -> Tensor:
        """Centres ``(count, D)`` by k-means."""
        kmeans = import_faiss().Kmeans(
            rows.shape[1],
            count,
            niter=_ROUNDS,
            seed=seed,
            spherical=self.sweep.filter.frame.metric == "cosine",
            min_points_per_centroid=1,
            max_points_per_centroid=len(rows),
        )
        kmeans.train(rows.numpy())
        return torch.from_numpy(kmeans.centroids)

    def _probes(self, centres: Tensor, source: Source, count: int) -> Tensor:
        """The nearest lists of each row, ``(n, count)``, in as few bytes as will do."""
        found = [self._nearest(centres, self._rows(block), count) for block in source.blocks()]
        return torch.cat(found)

    def _nearest(self, centres: Tensor, rows: Tensor, count: int) -> Tensor:
        scores = rows @ centres.T
        if self.sweep.filter.frame.metric == "euclidean":
            scores -= centres.square().sum(1) / 2
        found = scores.topk(count, dim=1).indices
        return found.to(torch.int16 if len(centres) < 2**15 else torch.int32)

    def _rows(self, x: Tensor) -> Tensor:
        pieces = torch.split(x, max(1, _ELEMENTS // x.shape[1]))
        return torch.cat([self.sweep.filter.frame.rows(some).float().cpu() for some in pieces])

    def _encode(self, columns: Tensor) -> Tensor:
        """Rows of the source by their places in the order of the lists, for a product."""
        if self._copy is not None:
            return self._copy[columns]
        encoded = self.sweep.filter.encode(self.source[self.order[columns]])
        return self.sweep.filter.mirrored(encoded.rows)

    def _places_of_lists(self, rows: Tensor) -> Tensor:
        """The place of every list, ``(lists,)`` from 0, in what some queries ask for together.

        A query's nearest list gets as many votes as it may name lists, its next one vote less.
        """
        asked = self.asked_lists[rows.cpu()].long()
        votes = torch.arange(asked.shape[1], 0, -1.0, device="cpu").expand_as(asked)
        total = asked.new_zeros(self.count, dtype=votes.dtype)
        total.index_add_(0, asked.flatten(), votes.flatten())
        return total.sort(descending=True, stable=True).indices.argsort()

    def _compared(self, rows: Tensor, probes: int) -> Tensor:
        """Places, in the order of the lists, of the rows compared with some queries."""
        wanted = (self._places_of_lists(rows) < probes).to(self.sorted_lists.device)
        return wanted[self.sorted_lists].nonzero()[:, 0]

    def _tune(
        self, nearest: Callable[[Candidates], tuple[Tensor, Tensor]], backend: InvertedLists
    ) -> RecallReport:
        """Takes the fewest probes that find enough of the exact neighbours of some queries."""
        strips, each = _TRIALS
        groups = torch.split(self.queries, TOGETHER)
        groups = groups[:: max(1, len(groups) // strips)]
        trials = [rows[:: max(1, len(rows) // each)] for rows in groups]
        place = torch.stack([self._places_of_lists(rows) for rows in groups])
        group = torch.zeros_like(self.queries, device="cpu")
        for number, rows in enumerate(trials):
            group[rows.cpu()] = number
        needed = []
        for candidates in self.sweep.by_rows(torch.cat(trials)):
            indices, _ = nearest(candidates)
            own = group[candidates.rows.cpu()].unsqueeze(1)
            needed.append(place[own, self.list_of[indices].cpu()])
        found = torch.cat(needed)
        sizes = torch.bincount(self.list_of.cpu(), minlength=self.count).double() / len(self.source)
        enough = math.ceil(as_fraction(backend.recall) * found.numel())
        probes = int(found.flatten().sort().values[enough - 1]) + 1
        return RecallReport(
            recall=(found < probes).double().mean().item(),
            target=backend.recall,
            lists=self.count,
            probes=probes,
            compared=((place < probes).double() @ sizes).mean().item(),
            queries=len(found),
        )
