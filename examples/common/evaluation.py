"""What a run is measured by: the only module that sees the ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from pseudolabel import adjusted_rand_index, clustering_accuracy, normalized_mutual_info


class Score(NamedTuple):
    """One line of the table; None where there is nothing to say or no ground truth."""

    stage: str
    accuracy: float | None
    nmi: float | None
    ari: float | None
    seconds: float
    reliable: int | None
    reliable_accuracy: float | None


@dataclass
class StageResult:
    """What a stage is scored by.

    Attributes:
        clusters: int64 ``(N,)``; to be set by the stage.
        reliable: bool ``(N,)``, which of them are thought to be reliable, or None.
    """

    clusters: Tensor | None = None
    reliable: Tensor | None = None


class Scoreboard:
    """Times and scores the stages of a run; prints as a table.

    Args:
        truth: int64 ``(N,)``, or None.
    """

    def __init__(self, truth: Tensor | None) -> None:
        self._truth = truth
        self.scores: list[Score] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[StageResult]:
        """Times the block and scores the clusters that it leaves in the result."""
        result = StageResult()
        start = perf_counter()
        yield result
        self.scores.append(self._score(name, result, perf_counter() - start))

    def _score(self, name: str, result: StageResult, seconds: float) -> Score:
        clusters = result.clusters.cpu()
        kept = None if result.reliable is None else result.reliable.cpu()
        count = None if kept is None else int(kept.sum())
        truth = self._truth
        if truth is None:
            return Score(name, None, None, None, seconds, count, None)
        return Score(
            name,
            clustering_accuracy(clusters, truth),
            normalized_mutual_info(clusters, truth),
            adjusted_rand_index(clusters, truth),
            seconds,
            count,
            clustering_accuracy(clusters, truth.where(kept, -1)) if count else None,
        )

    def __str__(self) -> str:
        """The table."""
        titles = ("stage", "ACC", "NMI", "ARI", "seconds", "reliable", "ACC of reliable")
        rows = [titles, *(_cells(score) for score in self.scores)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        return "\n".join(_line(row, widths) for row in rows)


def _cells(score: Score) -> tuple[str, ...]:
    shares = [
        "" if x is None else f"{x:.4f}"
        for x in (score.accuracy, score.nmi, score.ari, score.reliable_accuracy)
    ]
    reliable = "" if score.reliable is None else str(score.reliable)
    return (score.stage, *shares[:3], f"{score.seconds:.1f}", reliable, shares[3])


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def kmeans(features: Tensor, num_clusters: int, *, seed: int) -> Tensor:
    """k-means of float features ``(N, D)``, ten starts: int64 clusters ``(N,)``."""
    means = KMeans(num_clusters, n_init=10, random_state=seed)
    return torch.from_numpy(means.fit_predict(features.cpu().numpy())).long()


def kmeans_on_sphere(features: Tensor, num_clusters: int, *, seed: int) -> Tensor:
    """k-means of features ``(N, D)`` scaled to unit length, which are compared by their cosine."""
    return kmeans(normalize(features, dim=1), num_clusters, seed=seed)
