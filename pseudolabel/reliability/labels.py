"""Reliable labels, with what else SPICE's published code asks of them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import (
    check_axes,
    check_device,
    check_flag,
    check_has_values,
    check_int,
    check_labels,
    check_probs,
    check_real,
    wrong_type,
    wrong_value,
)
from pseudolabel._numerics import as_fraction
from pseudolabel.neighbors import DEFAULT_MEMORY, NeighborBackend
from pseudolabel.reliability._votes import count_votes
from pseudolabel.reliability.report import ReliabilityReport, reliability_report
from pseudolabel.types import Neighbors


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

    def report(self, *, keep: int = 10) -> ReliabilityReport:
        """A table, class by class, of what was kept and of what would have to change.

        Args:
            keep: How many samples of a class the last column is about: a threshold below the
                ratio it gives (with ``strict=False`` at or below) keeps that many.

        Raises:
            ValueError: If ``keep`` is below 1.

        Example:
            >>> import torch
            >>> from pseudolabel import reliable_labels
            >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
            >>> print(reliable_labels(features, torch.tensor([0, 0, 1, 0]), k=1).report(keep=3))
            class  samples  reliable  median ratio  best ratio  ratio of no. 3
                0        3         2         1.000       1.000           0.000
                1        1         0         0.000       0.000             nan
            class 1: no sample has a neighbour that carries its label.
        """
        return reliability_report(
            self.given,
            self.mask,
            self.ratio,
            self.threshold,
            self.strict,
            self.num_classes,
            check_int("keep", keep, 1, None),
        )


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
    memory_limit: int = DEFAULT_MEMORY,
    progress: bool = False,
) -> ReliableLabels:
    """Keeps the reliable labels, sets the others to -1, and can say why a class came out empty.

    `reliable_mask` decides. SPICE's published code adds two rules, off by default here: it is
    ``strict=False, include_self=True, probs=probs, min_confidence=0.99, balance=True``.

    Args:
        features: ``(N, D)`` tensor or array; with ``neighbors`` it only gives N.
        labels: ``(N,)``, an int64 tensor or an array of integers; -1 for unlabelled.
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
        memory_limit: See `nearest_neighbors`; the graph itself is never held.
        progress: Whether to show a bar (needs tqdm).

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
    votes = count_votes(
        features,
        labels,
        k=k,
        threshold=threshold,
        strict=strict,
        include_self=include_self,
        metric=metric,
        backend=backend,
        neighbors=neighbors,
        memory_limit=memory_limit,
        progress=progress,
        exact=True,
    )
    given, mask = votes.labels, votes.passed
    check_axes("labels", given, "N")
    check_has_values("labels", given)
    num_classes = _number_of_classes(given, probs)
    if min_confidence is not None:
        check_real("min_confidence", min_confidence)
        limit = float(as_fraction(min_confidence))
        if probs is None:
            wrong_value("probs", "probabilities, which min_confidence needs", probs)
        wide = probs if probs.dtype == torch.float64 else probs.float()
        mask = mask & (wide.amax(-1) > limit)
    if balance:
        mask = _balanced(given, mask, num_classes, generator)
    return ReliableLabels(
        labels=torch.where(mask, given, -1),
        mask=mask,
        ratio=votes.counts.double() / votes.width,
        given=given,
        threshold=float(as_fraction(threshold)),
        strict=strict,
        num_classes=num_classes,
    )


def _number_of_classes(labels: Tensor, probs: Tensor | None) -> int:
    if probs is None:
        return int(labels.max()) + 1
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
    survivors = torch.bincount(kept, minlength=num_classes + 1)[:num_classes]
    smallest = survivors.min() if num_classes else 0
    by_class = kept.sort(stable=True)
    starts = torch.searchsorted(by_class.values, by_class.values)
    place = torch.arange(len(mask), device=mask.device) - starts
    chosen = order[by_class.indices[(place < smallest) & (by_class.values < num_classes)]]
    return torch.zeros_like(mask).index_fill(0, chosen, True)
