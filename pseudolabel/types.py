"""The results that operators return: named tuples of tensors, with what follows from them alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pseudolabel._checks import check_int, values_are_checked, wrong_value


class PseudoLabels(NamedTuple):
    """Which samples carry which pseudo-label: a list of (sample, label) entries for every head.

    Entries come cluster by cluster and within a cluster nearest first (ties: lowest sample). Under
    ``"overlap"`` a sample can be listed several times, with different labels. A place that stays
    free holds -1, -1 and ``-inf`` and comes after the taken places of its cluster. Free places
    must be skipped when indexing: ``x[-1]`` is the last row, not none.

    Attributes:
        indices: int64 ``(*heads, entries)``, the sample, or -1.
        labels: int64 ``(*heads, entries)``, its pseudo-label, or -1.
        similarity: float32 or float64 ``(*heads, entries)``, the sample's similarity to the
            prototype of that label: the cosine, or minus the Euclidean distance.
        prototypes: float32 or float64 ``(*heads, K, D)``.
        metric: ``"cosine"`` or ``"euclidean"``.
    """

    indices: Tensor
    labels: Tensor
    similarity: Tensor
    prototypes: Tensor
    metric: str

    def dense(self, num_samples: int) -> Tensor:
        """One label a sample: of several the most similar, then the lowest; -1 for none.

        Args:
            num_samples: How many samples the entries point into.

        Returns:
            int64 ``(*heads, num_samples)``.

        Raises:
            ValueError: If an entry points beyond ``num_samples``.

        Example:
            >>> import torch
            >>> from pseudolabel import assign_labels
            >>> points = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
            >>> assign_labels(points, points[[0, 2]], 2).dense(4)
            tensor([ 0,  0,  1, -1])
        """
        slots = self._slots(num_samples)
        heads, num_classes = self.labels.shape[:-1], self.prototypes.shape[-2]
        best = self.similarity.new_full((*heads, num_samples + 1), -torch.inf)
        best = best.scatter_reduce(-1, slots, self.similarity, "amax")
        wins = (self.labels >= 0) & (self.similarity == best.gather(-1, slots))
        labels = self.labels.new_full((*heads, num_samples + 1), num_classes)
        candidates = torch.where(wins, self.labels, num_classes)
        labels = labels.scatter_reduce(-1, slots, candidates, "amin")[..., :num_samples]
        return torch.where(labels == num_classes, -1, labels)

    def multi_hot(self, num_samples: int) -> Tensor:
        """Every label of every sample, overlaps included.

        Args:
            num_samples: How many samples the entries point into.

        Returns:
            bool ``(*heads, num_samples, K)``.

        Raises:
            ValueError: If an entry points beyond ``num_samples``.

        Example:
            >>> import torch
            >>> from pseudolabel import assign_labels
            >>> points = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
            >>> assign_labels(points, points[[0, 2]], 2).multi_hot(4).sum(-1)
            tensor([1, 2, 1, 0])
        """
        slots = self._slots(num_samples)
        heads, num_classes = self.labels.shape[:-1], self.prototypes.shape[-2]
        cells = slots * num_classes + self.labels.clamp(min=0)
        hot = torch.zeros(
            *heads, (num_samples + 1) * num_classes, dtype=torch.bool, device=cells.device
        )
        hot = hot.scatter(-1, cells, True)
        return hot.reshape(*heads, num_samples + 1, num_classes)[..., :num_samples, :]

    def _slots(self, num_samples: int) -> Tensor:
        """Where each entry is written; free places go to one extra slot that is cut off."""
        num_samples = check_int("num_samples", num_samples, 1, None)
        if values_are_checked(self.indices) and (self.indices >= num_samples).any():
            wrong_value("num_samples", f"more than {int(self.indices.max())}", num_samples)
        return torch.where(self.indices < 0, num_samples, self.indices)


class Neighbors(NamedTuple):
    """The k nearest samples of each sample, most similar first, ties to the lowest index.

    Attributes:
        indices: int64 ``(N, k)``.
        similarity: float32 or float64 ``(N, k)``: the cosine, or minus the Euclidean distance.
    """

    indices: Tensor
    similarity: Tensor


class Selection(NamedTuple):
    """What a confidence threshold lets pass.

    Attributes:
        targets: int64 ``(B,)``, the most probable class (ties: lowest).
        weights: ``(B,)`` in [0, 1], in the dtype of the probabilities; 0 leaves a sample out.
    """

    targets: Tensor
    weights: Tensor
