"""How many neighbours carry a sample's label: in integers, and no more exactly than is asked."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import (
    as_int64,
    check_device,
    check_flag,
    check_integer,
    check_labels,
    check_real,
    values_are_checked,
    wrong_type,
    wrong_value,
)
from pseudolabel._numerics import as_fraction
from pseudolabel.neighbors import NeighborBackend
from pseudolabel.neighbors._search import Search, make_search, progress_bar
from pseudolabel.neighbors._sweep import Candidates
from pseudolabel.types import Neighbors

_BLOCK_LABELS = 2**24  # neighbour labels gathered at a time


class Votes(NamedTuple):
    """What the neighbours say.

    Attributes:
        labels: int64 ``(*heads, N)``, as given.
        counts: int64 ``(*heads, N)``, how many of the k neighbours carry a sample's label.
        width: k.
        needed: How many it takes for a label to be reliable.
    """

    labels: Tensor
    counts: Tensor
    width: int
    needed: int

    @property
    def passed(self) -> Tensor:
        """Which labels are reliable, ``(*heads, N)``; none of -1 ever is."""
        return (self.labels >= 0) & (self.counts >= self.needed)


def count_votes(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    k: int,
    threshold: float,
    strict: bool,
    include_self: bool,
    metric: Literal["cosine", "euclidean"],
    backend: str | NeighborBackend,
    neighbors: Neighbors | Tensor | None,
    memory_limit: int,
    progress: bool,
    exact: bool,
) -> Votes:
    """The votes on every label, by a graph that is given or by a search.

    With ``exact=False`` a search ends for a sample as soon as its candidates decide whether it
    passes: its count is then a bound on the right side of ``needed``.
    """
    check_real("threshold", threshold)
    check_flag("strict", strict)
    check_flag("progress", progress)
    if not isinstance(features, (Tensor, np.ndarray)):
        wrong_type("features", "a tensor or NumPy array of shape (N, D)", features)
    if features.ndim != 2:
        wrong_value("features", "shape (N, D)", features)
    given = as_labels(labels)
    if given.shape[-1] != len(features):
        wrong_value("labels", f"{len(features)} of them, one for each feature", given)
    if isinstance(features, Tensor):
        if isinstance(labels, np.ndarray):
            given = given.to(features.device)
        check_device("labels", given, features)
    if neighbors is not None:
        indices = check_graph(neighbors, given)
        width = indices.shape[1]
        return Votes(
            given, agreement(given, indices), width, needed_votes(threshold, width, strict)
        )
    search = make_search(
        features,
        k,
        metric=metric,
        include_self=include_self,
        backend=backend,
        memory_limit=memory_limit,
    )
    votes = Votes(given, torch.zeros_like(given), k, needed_votes(threshold, k, strict))
    groups = search.groups()
    with progress_bar(search, groups, shown=progress):
        for start, stop in groups:
            for candidates in search.candidates(start, stop):
                _count(search, candidates, votes, exact=exact)
    return votes


def as_labels(labels: Tensor | np.ndarray) -> Tensor:
    """Labels as a checked int64 tensor."""
    if isinstance(labels, np.ndarray):
        if not np.issubdtype(labels.dtype, np.integer):
            wrong_type("labels", "an integer dtype", labels)
        labels = torch.from_numpy(as_int64("labels", labels))
    check_integer("labels", labels, "*heads, N")
    check_labels("labels", labels)
    return labels


def check_graph(neighbors: Neighbors | Tensor, labels: Tensor) -> Tensor:
    """Checks a graph computed before, and returns its indices."""
    indices = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    check_integer("neighbors", indices, "N, k")
    check_device("neighbors", indices, labels)
    if labels.shape[-1] == 0:
        wrong_value("labels", "at least one sample", labels)
    if len(indices) != labels.shape[-1] or 0 in indices.shape:
        wrong_value("neighbors", f"shape ({labels.shape[-1]}, k), one row a label", indices)
    if values_are_checked(indices):
        outside = (indices < 0) | (indices >= len(indices))
        if outside.any():
            expected = f"indices in [0, {len(indices) - 1}]"
            wrong_value("neighbors", expected, int(indices[outside][0]))
    return indices


def agreement(labels: Tensor, indices: Tensor, rows: Tensor | None = None) -> Tensor:
    """How many neighbours carry each sample's label, int64 ``(*heads, B)``; 0 for label -1.

    Args:
        labels: ``(*heads, N)``.
        indices: ``(B, k)``, in ``[0, N)``.
        rows: ``(B,)``, whose neighbours they are; None for all samples in order.
    """
    given = labels if rows is None else labels[..., rows]
    heads = max(1, given[..., 0].numel()) if given.numel() else 1
    size = max(1, _BLOCK_LABELS // (heads * indices.shape[1]))
    counts = [
        (labels[..., block] == own.unsqueeze(-1)).sum(-1)
        for block, own in zip(
            torch.split(indices, size), torch.split(given, size, dim=-1), strict=True
        )
    ]
    return torch.where(given >= 0, torch.cat(counts, dim=-1), 0)


def _count(search: Search, candidates: Candidates, votes: Votes, *, exact: bool) -> None:
    """Writes the counts of some samples, looking no closer than need be."""
    low, high = _bounds(search, candidates, votes.labels)
    votes.counts[..., candidates.rows] = low
    undecided = low < high if exact else (low < votes.needed) & (high >= votes.needed)
    undecided = undecided.reshape(-1, len(candidates.rows)).any(0)
    if undecided.any():
        rest = candidates.of(undecided)
        indices, _ = search.nearest(rest)
        votes.counts[..., rest.rows] = agreement(votes.labels, indices, rest.rows)


def _bounds(search: Search, candidates: Candidates, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Between what the count of each sample lies, ``(*heads, B)``, by its candidates' labels."""
    own = labels[..., candidates.rows].unsqueeze(-1)
    none = torch.zeros_like(own[..., 0])
    if not candidates.listed:
        return none, torch.where(own[..., 0] >= 0, search.k, none)
    listed = candidates.indices >= 0
    same = (labels[..., candidates.indices.clamp(min=0)] == own) & (own >= 0) & listed
    certain = candidates.certain.sum(-1)
    confirmed = (same & candidates.certain).sum(-1)
    possible = (same & ~candidates.certain).sum(-1)
    places = search.others - certain  # for those that are not certain, whoever they are
    others = listed.sum(-1) - certain - possible
    itself = (own[..., 0] >= 0) & search.include_self
    low = itself + confirmed + (places - others).clamp(min=0)
    return torch.where(own[..., 0] >= 0, low, 0), itself + confirmed + torch.minimum(
        possible, places
    )


def needed_votes(threshold: float, width: int, strict: bool) -> int:
    """The smallest count of ``width`` that passes, in integers."""
    exact = as_fraction(threshold) * width
    return int(exact.numerator // exact.denominator + 1 if strict else -(-exact // 1))
