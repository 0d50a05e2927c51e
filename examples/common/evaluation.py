"""What a run is measured by: the only module that holds the ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from common.measures import Findings, find, linear_probe
from common.timing import metered
from pseudolabel import adjusted_rand_index, clustering_accuracy, normalized_mutual_info

MAPPED = 3000  # images in a map of a snapshot


class Snapshot(NamedTuple):
    """What heads said of the images at some time of their training, on the CPU.

    Attributes:
        after: Rounds or steps of training before it.
        clusters: int16 ``(H, N)``, for there may be many evaluations; int64 if K needs it.
        sample: Logits ``(H, n, K)`` of at most 3,000 images, evenly spaced, for a map.
        losses: ``(H,)``, label-free, that the heads are selected by, or None.
    """

    after: int
    clusters: Tensor
    sample: Tensor
    losses: Tensor | None

    @classmethod
    def of(cls, after: int, logits: Tensor, losses: Tensor | None) -> Snapshot:
        """Of logits ``(H, N, K)``, which take too much memory to keep many."""
        # A copy: a view would keep all of them.
        sample = logits[:, :: -(-logits.shape[1] // MAPPED)].clone()
        clusters = logits.argmax(-1).to(torch.int16 if logits.shape[-1] < 2**15 else torch.int64)
        return cls(after, clusters.cpu(), sample.cpu(), None if losses is None else losses.cpu())


@dataclass
class History:
    """The evaluations of a stage, as they come; they outlive the process with its state."""

    moments: list[Snapshot] = field(default_factory=list)

    def state_dict(self) -> list[dict[str, Any]]:
        """All of them."""
        return [moment._asdict() for moment in self.moments]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Takes them over, in place of those there are."""
        self.moments = [Snapshot(**moment) for moment in state]


class Score(NamedTuple):
    """One line of the table; None where there is nothing to say or no ground truth.

    Attributes:
        stage: Its name.
        accuracy: Of the clusters, like the next two, on the images trained on.
        nmi: Normalised mutual information.
        ari: Adjusted Rand index.
        seconds: The stage took, evaluations within it included.
        reliable: How many labels are thought to be.
        reliable_accuracy: Of those alone.
        held_out: Accuracy, NMI and ARI on images that were not trained on.
        probe: Accuracy of a linear classifier on the stage's features.
        images_per_second: Views that passed through the network.
        outside_network: Share of the seconds that the network did not take.
        history: After how many rounds or steps which accuracies and losses, one a head.
    """

    stage: str
    accuracy: float | None
    nmi: float | None
    ari: float | None
    seconds: float
    reliable: int | None
    reliable_accuracy: float | None
    held_out: tuple[float, float, float] | None = None
    probe: float | None = None
    images_per_second: float = 0.0
    outside_network: float = 1.0
    history: list[dict[str, Any]] | None = None


@dataclass
class StageResult:
    """What a stage is scored by; to be set by the stage.

    Attributes:
        clusters: int64 ``(N,)``, or None for a stage that finds none.
        reliable: bool ``(N,)``, which of them are thought to be reliable, or None.
        held_out: int64 clusters of the held-out images, or None.
        features: ``(N, D)`` for a linear probe, or None.
        history: Evaluations on the way.
    """

    clusters: Tensor | None = None
    reliable: Tensor | None = None
    held_out: Tensor | None = None
    features: Tensor | None = None
    history: list[Snapshot] = field(default_factory=list)


class Scoreboard:
    """Times and scores the stages of a run; prints as a table.

    Nothing that it knows goes back to a stage.

    Args:
        truth: int64 ``(N,)``, or None.
        held_out: int64, of the held-out images, or None.
    """

    def __init__(self, truth: Tensor | None, held_out: Tensor | None = None) -> None:
        self._truth, self._held_out = truth, held_out
        self.scores: list[Score] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[StageResult]:
        """Times the block and scores the clusters that it leaves in the result."""
        result = StageResult()
        with metered() as meter:
            yield result
            seconds, outside = meter.seconds, meter.outside
        speed = {"images_per_second": meter.images / seconds, "outside_network": outside}
        score = Score(name, None, None, None, seconds, None, None, **speed)
        self.scores.append(score._replace(**self._score(result)))

    def find(
        self, embeddings: Tensor, probs: Tensor, labels: Tensor, ratio: Tensor, final: Tensor
    ) -> Findings:
        """The papers' figures of the labels that a run judged; see `common.measures.find`."""
        return find(embeddings, probs, labels, ratio, final, self._truth)

    def _score(self, result: StageResult) -> dict[str, Any]:
        kept = None if result.reliable is None else result.reliable.cpu()
        count = None if kept is None else int(kept.sum())
        truth = self._truth
        scored: dict[str, Any] = {"reliable": count}
        if result.history:
            scored["history"] = [_moment(moment, truth) for moment in result.history]
        if truth is None:
            return scored
        if result.features is not None:
            scored["probe"] = linear_probe(result.features, truth)
        if result.clusters is None:
            return scored
        clusters = result.clusters.cpu()
        scored |= dict(zip(("accuracy", "nmi", "ari"), _metrics(clusters, truth), strict=True))
        if count:
            scored["reliable_accuracy"] = clustering_accuracy(clusters, truth.where(kept, -1))
        if result.held_out is not None and self._held_out is not None:
            scored["held_out"] = _metrics(result.held_out.cpu(), self._held_out)
        return scored

    def table(self) -> list[tuple[str, ...]]:
        """The titles of the columns, and a row for every stage."""
        titles = ("stage", "ACC", "NMI", "ARI", "seconds", "reliable", "ACC of reliable")
        titles += ("held-out ACC", "linear probe", "images/s", "outside network")
        columns = list(zip(titles, *(_cells(score) for score in self.scores), strict=True))
        # A column that says nothing of any stage is left out.
        columns = [columns[0], *(column for column in columns[1:] if any(column[1:]))]
        return list(zip(*columns, strict=True))

    def __str__(self) -> str:
        """The table in columns of one width."""
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        return "\n".join(_line(row, widths) for row in rows)


def _metrics(clusters: Tensor, truth: Tensor) -> tuple[float, float, float]:
    return (
        clustering_accuracy(clusters, truth),
        normalized_mutual_info(clusters, truth),
        adjusted_rand_index(clusters, truth),
    )


def _moment(moment: Snapshot, truth: Tensor | None) -> dict[str, Any]:
    said: dict[str, Any] = {"after": moment.after}
    if moment.losses is not None:
        said["losses"] = moment.losses.tolist()
    if truth is not None:
        said["accuracies"] = [clustering_accuracy(head, truth) for head in moment.clusters]
    return said


def _cells(score: Score) -> tuple[str, ...]:
    shares = [
        "" if x is None else f"{x:.4f}"
        for x in (
            score.accuracy,
            score.nmi,
            score.ari,
            score.reliable_accuracy,
            None if score.held_out is None else score.held_out[0],
            score.probe,
        )
    ]
    reliable = "" if score.reliable is None else str(score.reliable)
    speed = ("", "")
    if score.images_per_second:
        speed = (f"{score.images_per_second:,.0f}", f"{score.outside_network:.0%}")
    return (score.stage, *shares[:3], f"{score.seconds:.1f}", reliable, *shares[3:], *speed)


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
