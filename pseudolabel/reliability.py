"""Which pseudo-labels the neighbours of a sample confirm: SPICE Eq. 6-7, RPSC Eq. 6."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import (
    check_axes,
    check_device,
    check_flag,
    check_integer,
    check_labels,
    check_probs,
    check_real,
    values_are_checked,
    wrong_type,
    wrong_value,
)
from pseudolabel._numerics import as_fraction
from pseudolabel.neighbors import NeighborBackend, nearest_neighbors
from pseudolabel.report import ReliabilityReport, reliability_report
from pseudolabel.types import Neighbors

_BLOCK_LABELS = 2**24  # neighbour labels gathered at a time


class ReliableLabels(NamedTuple):
    """Labels that survived, and everything needed to see why the others did not.

    Attributes:
        labels: int64 ``(N,)``, -1 where unreliable.
        mask: bool ``(N,)``, True where a label was kept.
        ratio: float64 ``(N,)``, the share of neighbours that agree.
        given: int64 ``(N,)``, the labels as they came.
        threshold: The threshold of the ratio.
        strict: Whether the ratio had to lie above the threshold, or could equal it.
        num_classes: The number of classes reported on.
    """

    labels: Tensor
    mask: Tensor
    ratio: Tensor
    given: Tensor
    threshold: float
    strict: bool
    num_classes: int

    def report(self) -> ReliabilityReport:
        """A table, class by class, of what was kept and of what would have to change.

        Example:
            >>> import torch
            >>> from pseudolabel import reliable_labels
            >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
            >>> print(reliable_labels(features, torch.tensor([0, 0, 1, 0]), k=1).report())
            class  samples  reliable  median ratio  best ratio
                0        3         2         1.000       1.000
                1        1         0         0.000       0.000
            class 1: no sample has a neighbour that carries its label.
        """
        return reliability_report(
            self.given, self.mask, self.ratio, self.threshold, self.strict, self.num_classes
        )


@torch.no_grad()
def reliability_ratio(labels: Tensor | np.ndarray, neighbors: Neighbors | Tensor) -> Tensor:
    r"""The share of a sample's neighbours that carry its label (SPICE Eq. 6, RPSC Eq. 6).

    .. math:: r_i = \frac{1}{k} \sum_{j \in N_k(i)} 1[l_j = l_i]

    Args:
        labels: int64 ``(*heads, N)``, -1 for unlabelled.
        neighbors: Neighbors, or int64 indices ``(N, k)`` in ``[0, N)``.

    Returns:
        float64 ``(*heads, N)`` in [0, 1]; 0 where the label is -1. Neighbours without a label
        agree with nobody.

    Raises:
        TypeError: If ``labels`` or ``neighbors`` are not of int64.
        ValueError: If a shape, label or index is out of range, or devices differ.

    Example:
        >>> import torch
        >>> from pseudolabel import reliability_ratio
        >>> neighbors = torch.tensor([[1, 2], [0, 2], [0, 1]])
        >>> reliability_ratio(torch.tensor([0, 0, 1]), neighbors)
        tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """
    labels, indices = _checked(labels, neighbors)
    return _agreement(labels, indices).double() / indices.shape[-1]


@torch.no_grad()
def reliable_mask(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    k: int = 100,
    threshold: float = 0.95,
    strict: bool = True,
    include_self: bool = False,
    metric: Literal["cosine", "euclidean"] = "cosine",
    backend: str | NeighborBackend = "auto",
    neighbors: Neighbors | Tensor | None = None,
) -> Tensor:
    r"""Marks the samples whose neighbours mostly share their label (SPICE Eq. 7, RPSC Eq. 6).

    .. math:: m_i = [\, r_i > \lambda \,]

    Agreement is counted in integers and the threshold read as it was written: 95 of 100 is not
    above 0.95. A sample labelled -1 is never reliable.

    Args:
        features: ``(N, D)`` tensor or array; with ``neighbors`` it only gives N.
        labels: int64 ``(*heads, N)``, -1 for unlabelled.
        k: How many neighbours, in ``[1, N - 1]``; both papers use 100.
        threshold: In [0, 1]; both papers use 0.95.
        strict: True keeps ratios above the threshold (both papers); False also those equal to it
            (SPICE's published code).
        include_self: Whether a sample is one of its own k neighbours (SPICE's published code).
        metric: ``"cosine"`` or ``"euclidean"``.
        backend: See `nearest_neighbors`.
        neighbors: A graph computed before; its width is then k.

    Returns:
        bool ``(*heads, N)``, on the features' device.

    Raises:
        TypeError: If an input is of the wrong kind.
        ValueError: If a shape, ``k``, label or the threshold is out of range.

    Example:
        >>> import torch
        >>> from pseudolabel import reliable_mask
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> reliable_mask(features, torch.tensor([0, 0, 1, -1]), k=1, threshold=0.5)
        tensor([ True,  True, False, False])
    """
    labels, counts, width = _counted(
        features, labels, k, threshold, strict, include_self, metric, backend, neighbors
    )
    return _passes(labels, counts, width, threshold, strict)


@torch.no_grad()
def reliable_labels(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    k: int = 100,
    threshold: float = 0.95,
    strict: bool = True,
    include_self: bool = False,
    metric: Literal["cosine", "euclidean"] = "cosine",
    backend: str | NeighborBackend = "auto",
    neighbors: Neighbors | Tensor | None = None,
    probs: Tensor | None = None,
    min_confidence: float | None = None,
    balance: bool = False,
    generator: torch.Generator | None = None,
) -> ReliableLabels:
    """Keeps the reliable labels, sets the others to -1, and can say why a class came out empty.

    `reliable_mask` decides. SPICE's published code adds two rules, off by default here: it is
    ``strict=False, include_self=True, probs=probs, min_confidence=0.99, balance=True``.

    Args:
        features: ``(N, D)`` tensor or array; with ``neighbors`` it only gives N.
        labels: int64 ``(N,)``, -1 for unlabelled.
        k: See `reliable_mask`, like the options up to ``neighbors``.
        threshold: In [0, 1].
        strict: Whether the ratio must lie above the threshold.
        include_self: Whether a sample is one of its own k neighbours.
        metric: ``"cosine"`` or ``"euclidean"``.
        backend: See `nearest_neighbors`.
        neighbors: A graph computed before; its width is then k.
        probs: ``(N, K)`` probabilities, for ``min_confidence`` and the number of classes.
        min_confidence: In [0, 1]; a label is kept only if the sample's largest probability lies
            above it.
        balance: True cuts every class to the smallest survivor count, at random. A class without
            any survivor then empties all of them; the report says so.
        generator: For ``balance``; None uses torch's default generator.

    Returns:
        ReliableLabels.

    Raises:
        TypeError: If an input is of the wrong kind.
        ValueError: If a shape, value or option is out of range, or ``min_confidence`` comes without
            ``probs``.

    Example:
        >>> import torch
        >>> from pseudolabel import reliable_labels
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> reliable_labels(features, torch.tensor([0, 0, 1, 0]), k=1).labels
        tensor([ 0,  0, -1, -1])
    """
    check_flag("balance", balance)
    if generator is not None and not isinstance(generator, torch.Generator):
        wrong_type("generator", "a torch.Generator or None", generator)
    given, counts, width = _counted(
        features, labels, k, threshold, strict, include_self, metric, backend, neighbors
    )
    check_axes("labels", given, "N")
    num_classes = _number_of_classes(given, probs)
    mask = _passes(given, counts, width, threshold, strict)
    if min_confidence is not None:
        check_real("min_confidence", min_confidence)
        if probs is None:
            wrong_value("probs", "probabilities, which min_confidence needs", probs)
        wide = probs if probs.dtype == torch.float64 else probs.float()
        mask = mask & (wide.amax(-1) > min_confidence)
    if balance:
        mask = _balanced(given, mask, num_classes, generator)
    return ReliableLabels(
        labels=torch.where(mask, given, -1),
        mask=mask,
        ratio=counts.double() / width,
        given=given,
        threshold=float(threshold),
        strict=strict,
        num_classes=num_classes,
    )


def _counted(
    features: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    k: int,
    threshold: float,
    strict: bool,
    include_self: bool,
    metric: Literal["cosine", "euclidean"],
    backend: str | NeighborBackend,
    neighbors: Neighbors | Tensor | None,
) -> tuple[Tensor, Tensor, int]:
    """Labels as a tensor, how many neighbours agree with each, and of how many."""
    check_real("threshold", threshold)
    check_flag("strict", strict)
    if not isinstance(features, (Tensor, np.ndarray)):
        wrong_type("features", "a tensor or NumPy array of shape (N, D)", features)
    if features.ndim != 2:
        wrong_value("features", "shape (N, D)", features)
    tensor = _as_labels(labels)
    if tensor.shape[-1] != len(features):
        wrong_value("labels", f"{len(features)} of them, one for each feature", tensor)
    if isinstance(features, Tensor):
        check_device("labels", tensor, features)
    if neighbors is None:
        neighbors = nearest_neighbors(
            features, k, include_self=include_self, metric=metric, backend=backend
        )
    tensor, indices = _checked(tensor, neighbors)
    return tensor, _agreement(tensor, indices), indices.shape[-1]


def _as_labels(labels: Tensor | np.ndarray) -> Tensor:
    if isinstance(labels, np.ndarray):
        if labels.dtype != np.int64:
            wrong_type("labels", "dtype int64", labels)
        labels = torch.from_numpy(np.array(labels))
    check_integer("labels", labels, "*heads, N")
    check_labels("labels", labels)
    return labels


def _checked(labels: Tensor | np.ndarray, neighbors: Neighbors | Tensor) -> tuple[Tensor, Tensor]:
    labels = _as_labels(labels)
    indices = neighbors.indices if isinstance(neighbors, Neighbors) else neighbors
    check_integer("neighbors", indices, "N, k")
    check_device("neighbors", indices, labels)
    if len(indices) != labels.shape[-1] or indices.shape[-1] == 0:
        wrong_value("neighbors", f"shape ({labels.shape[-1]}, k), one row a label", indices)
    if values_are_checked(indices):
        outside = (indices < 0) | (indices >= len(indices))
        if outside.any():
            expected = f"indices in [0, {len(indices) - 1}]"
            wrong_value("neighbors", expected, int(indices[outside][0]))
    return labels, indices


def _agreement(labels: Tensor, indices: Tensor) -> Tensor:
    """How many neighbours carry each sample's label, int64 ``(*heads, N)``; 0 for label -1."""
    size = max(1, _BLOCK_LABELS // max(1, labels.numel() // len(indices) * indices.shape[-1]))
    counts = [
        (labels[..., block] == own.unsqueeze(-1)).sum(-1)
        for block, own in zip(
            torch.split(indices, size), torch.split(labels, size, dim=-1), strict=True
        )
    ]
    return torch.where(labels >= 0, torch.cat(counts, dim=-1), 0)


def _passes(labels: Tensor, counts: Tensor, width: int, threshold: float, strict: bool) -> Tensor:
    exact = as_fraction(float(threshold)) * width
    needed = exact.numerator // exact.denominator + 1 if strict else -(-exact // 1)
    return (labels >= 0) & (counts >= int(needed))


def _number_of_classes(labels: Tensor, probs: Tensor | None) -> int:
    if probs is None:
        return int(labels.max().clamp(min=-1)) + 1
    check_probs("probs", probs, "N, K")
    check_device("probs", probs, labels)
    if len(probs) != len(labels) or probs.shape[-1] == 0:
        wrong_value("probs", f"shape ({len(labels)}, K), one row a label", probs)
    check_labels("labels", labels, probs.shape[-1])
    return probs.shape[-1]


def _balanced(
    labels: Tensor, mask: Tensor, num_classes: int, generator: torch.Generator | None
) -> Tensor:
    """Cuts every class to the smallest survivor count: a random order, then a place per class."""
    device = mask.device if generator is None else generator.device
    order = torch.randperm(len(mask), generator=generator, device=device).to(mask.device)
    kept = torch.where(mask, labels, num_classes)[order]
    smallest = torch.bincount(kept, minlength=num_classes + 1)[:num_classes].min()
    by_class = kept.sort(stable=True)
    starts = torch.searchsorted(by_class.values, by_class.values)
    place = torch.arange(len(mask), device=mask.device) - starts
    chosen = order[by_class.indices[(place < smallest) & (by_class.values < num_classes)]]
    return torch.zeros_like(mask).index_fill(0, chosen, True)
