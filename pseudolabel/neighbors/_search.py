"""One search: who proposes candidates, and who decides among them."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import check_flag, check_int, check_option, wrong_value
from pseudolabel.neighbors._filter import Filter, Frame, fast_dtype
from pseudolabel.neighbors._plan import make_plan
from pseudolabel.neighbors._scoring import Scorer
from pseudolabel.neighbors._source import Source
from pseudolabel.neighbors._sweep import Candidates, Sweep
from pseudolabel.neighbors.backends import NeighborBackend, Proposals, make_proposals
from pseudolabel.neighbors.lists import TOGETHER, InvertedLists, ListSweep

_MARGIN = 16  # candidates beyond k asked of an index, so that near ties rarely need a sweep


class Search:
    """The k nearest among the rows of a source, for all rows of another or of the same.

    Args:
        source: The rows to search in.
        asked: The rows to search for: the source itself, or others.
        k: How many neighbours.
        metric: ``"cosine"`` or ``"euclidean"``.
        include_self: Whether a sample of the source is one of its own k neighbours.
        backend: A name or a `NeighborBackend`.
        memory: Bytes to stay within, beyond the input and what is done with the answers.
    """

    def __init__(
        self,
        source: Source,
        asked: Source,
        k: int,
        *,
        metric: str,
        include_self: bool,
        backend: str | NeighborBackend,
        memory: int,
    ) -> None:
        self.source, self.asked, self.k, self.include_self = source, asked, k, include_self
        self.backend = backend
        self.others = k - include_self
        width = source.dimension
        self.plan = make_plan(
            len(source), len(asked), width, max(1, self.others), memory, source.device
        )
        self.frame = Frame(source, asked, metric)
        self.scorer = Scorer(
            source,
            asked,
            self.frame,
            include_self=include_self,
            cached=self.plan.cached,
            elements=self.plan.elements,
        )
        self.proposals: Proposals | None = None
        if not isinstance(backend, InvertedLists):
            self.proposals = make_proposals(
                backend, source, self.frame, self.others + 1 + _MARGIN, memory
            )
        self.advance: Callable[[], object] = lambda: None
        self._sweep: Sweep | None = None
        self._lists: ListSweep | None = None

    def groups(self, first: int = 0) -> list[tuple[int, int]]:
        """Ranges of queries from ``first`` on, searched one after the other."""
        size, count = self.plan.group, len(self.asked)
        if self.proposals is None and self.plan.by_tiles:  # tiles and their mirror images align
            first -= first % self.plan.tile
        return [(start, min(start + size, count)) for start in range(first, count, size)]

    def steps(self, groups: list[tuple[int, int]]) -> int:
        """How often `advance` is called about, in some groups."""
        size = self.plan.wide_rows
        if isinstance(self.backend, InvertedLists):
            size = TOGETHER
        elif self.proposals is not None:
            size = self.plan.tile
        elif self.plan.by_tiles:
            return self._tiles(groups)
        return sum(-(-(stop - start) // size) for start, stop in groups)

    def _tiles(self, groups: list[tuple[int, int]]) -> int:
        tiles = [-(-(stop - start) // self.plan.tile) for start, stop in groups]
        every = -(-len(self.source) // self.plan.tile)
        spared = sum(rows * (rows - 1) // 2 for rows in tiles) * (self.asked is self.source)
        return sum(tiles) * every - spared

    def describe(self) -> dict[str, object]:
        """What the answer depends on, as JSON can hold it."""
        backend = self.backend if isinstance(self.backend, str) else type(self.backend).__name__
        if isinstance(self.backend, InvertedLists):  # queries come in the order of the lists
            lists = self.lists(self.backend).asked_lists[:, 0].numpy()
            backend = f"{self.backend!r} {hashlib.blake2b(lists.tobytes()).hexdigest()[:16]}"
        return {
            "features": self.source.fingerprint(),
            "queries": None if self.asked is self.source else self.asked.fingerprint(),
            "k": self.k,
            "metric": self.frame.metric,
            "include_self": self.include_self,
            "backend": backend,
        }

    def candidates(self, start: int, stop: int) -> Iterator[Candidates]:
        """Candidates of every query of a group, in no particular order."""
        return (some for some in self._candidates(start, stop) if len(some.rows))

    def _candidates(self, start: int, stop: int) -> Iterator[Candidates]:
        rows = torch.arange(start, stop, device=self.source.device)
        if self.others == 0:
            nobody = rows.new_empty(len(rows), 0)
            yield Candidates(rows, nobody, nobody.bool())
        elif isinstance(self.backend, InvertedLists):
            yield from self.lists(self.backend).candidates(start, stop)
        elif self.proposals is not None:
            for some in torch.split(rows, self.plan.tile):
                yield from self._proposed(some, self.proposals)
                self.advance()
        elif self.plan.by_tiles:
            yield from self.sweep.by_tiles(start, stop)
        else:
            yield from self.sweep.by_rows(rows)

    def nearest(self, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Indices and float64 similarities ``(B, k)``, most similar first, ties by index."""
        if not candidates.listed:
            return self.scorer.nearest_of_all(candidates.rows, self.k)
        return self.scorer.nearest(candidates.rows, candidates.indices, self.k)

    @property
    def sweep(self) -> Sweep:
        """The search through all rows, by the dtype that is worth while."""
        if self._sweep is None:
            fast = fast_dtype(self.source.device) if self.plan.by_tiles else torch.float32
            self._sweep = self._make_sweep(fast)
            if fast != torch.float32 and not self._sweep.pays():
                self._sweep = self._make_sweep(torch.float32)
        return self._sweep

    def lists(self, backend: InvertedLists) -> ListSweep:
        """The search through the lists around each query."""
        if self._lists is None:
            self._lists = ListSweep(self.sweep, self.nearest, backend)
        return self._lists

    def _make_sweep(self, dtype: torch.dtype) -> Sweep:
        return Sweep(
            self.source,
            self.asked,
            Filter(self.frame, dtype),
            self.others,
            self.plan,
            lambda: self.advance(),
        )

    def _proposed(self, rows: Tensor, proposals: Proposals) -> Iterator[Candidates]:
        """What an index proposes; queries that it leaves open go through all rows."""
        queries = self.asked[rows]
        indices, scores = proposals.search(self.frame.rows(queries).float())
        missing = indices < 0
        if self.asked is self.source:
            missing |= indices == rows.unsqueeze(1)
        scores = scores.masked_fill(missing, -torch.inf)
        certain = torch.zeros_like(missing)
        settled = (~missing).sum(1) >= self.others
        if proposals.exact and indices.shape[1] >= self.others:
            slack = proposals.filter.encode(queries).slack
            kth = scores.topk(self.others, dim=1).values[:, -1]
            worst = scores.masked_fill(missing, torch.inf).amin(1)
            everybody = (~missing).sum(1) >= len(self.source) - (self.asked is self.source)
            settled &= everybody | (worst < proposals.filter.floor(kth, slack))
            certain = proposals.filter.certain(scores, kth, slack)
        indices = indices.masked_fill(missing, -1)
        yield Candidates(rows[settled], indices[settled], certain[settled])
        if not settled.all():
            yield from self.sweep.by_rows(rows[~settled])


def make_search(
    features: Tensor | np.ndarray,
    k: int,
    *,
    queries: Tensor | np.ndarray | None = None,
    metric: str,
    include_self: bool,
    backend: str | NeighborBackend,
    memory_limit: int,
) -> Search:
    """A search by checked arguments; see `nearest_neighbors`."""
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
    memory = check_int("memory_limit", memory_limit, 1, None)
    return Search(
        source,
        asked,
        k,
        metric=metric,
        include_self=include_self,
        backend=backend,
        memory=memory,
    )


@contextmanager
def progress_bar(search: Search, groups: list[tuple[int, int]], *, shown: bool) -> Iterator[None]:
    """Shows how far a search is, tile by tile."""
    if not shown:
        yield
        return
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: install tqdm") from error
    with tqdm(total=search.steps(groups), desc="neighbours", unit="tile") as bar:
        search.advance = bar.update
        yield
