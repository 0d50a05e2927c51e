"""From prototypes to labelled samples: SPICE Eq. 4, RPSC's neighbours of a centre."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from pseudolabel._checks import (
    check_device,
    check_floating,
    check_has_values,
    check_option,
    wrong_value,
)
from pseudolabel._numerics import Rows, result_dtype, similarity_matrix, sort_descending, split_rows
from pseudolabel.prototypes._counts import class_counts
from pseudolabel.prototypes._exclusive import (
    greedy_owners,
    nearest_owners,
    optimal_owners,
    sequential_owners,
)
from pseudolabel.prototypes.selection import check_features, keep_counts
from pseudolabel.types import PseudoLabels

Assignment = Literal["overlap", "greedy", "optimal", "sequential", "nearest"]
Metric = Literal["cosine", "euclidean"]

METRICS = get_args(Metric)
ASSIGNMENTS = get_args(Assignment)
_OWNERS: dict[str, Callable[[Tensor, Sequence[int]], Tensor]] = {
    "greedy": greedy_owners,
    "optimal": optimal_owners,
    "sequential": sequential_owners,
    "nearest": nearest_owners,
}


@torch.no_grad()
def assign_labels(
    features: Tensor,
    prototypes: Tensor,
    count: int | Sequence[int],
    *,
    assignment: Assignment = "overlap",
    metric: Metric = "cosine",
) -> PseudoLabels:
    r"""Labels the samples nearest to every prototype (SPICE Eq. 4).

    .. math:: X^s = \{(x_i, c) : x_i \text{ among the } n_c \text{ nearest to } \gamma_c\}

    Use ``"overlap"`` as the papers do; an exclusive rule where a sample must not carry two labels.

    - ``"overlap"``: every cluster takes its ``count`` nearest samples, whoever else takes them.
    - ``"greedy"``: exclusive; the globally closest free (cluster, sample) pair is taken, again and
      again (ties: lowest cluster, then lowest sample). No cluster is favoured by its index.
    - ``"optimal"``: exclusive, with the largest possible total similarity. Computed on the CPU,
      head by head, for M up to about 10,000.
    - ``"sequential"``: exclusive, clusters served in index order as in SPICE's published code:
      cluster 0 is favoured. For the ablation.
    - ``"nearest"``: the overlap choice, but a contested sample stays only with its closest cluster
      (ties: lowest cluster); a cluster may end with fewer than ``count``.

    Equal similarities go to the lowest sample index; identical rows of features have exactly equal
    similarities.

    Args:
        features: ``(M, D)``; need not be normalised. A zero row has cosine 0 to everything.
        prototypes: ``(*heads, K, D)``.
        count: How many samples each cluster labels, in ``[1, M]``: an int, or ``K`` of them.
        assignment: One of the five rules above.
        metric: ``"cosine"`` or ``"euclidean"``.

    Returns:
        PseudoLabels with ``sum(count)`` entries a head, without gradient.

    Raises:
        TypeError: If an input is not a floating-point tensor or ``count`` not made of ints.
        ValueError: If shapes, devices or options do not fit, a count is out of range, or the counts
            of an exclusive assignment sum above ``M``.

    Example:
        >>> import torch
        >>> from pseudolabel import assign_labels
        >>> features = torch.tensor([[1.0, 0.1], [0.8, 0.6], [0.6, 0.8], [0.1, 1.0]])
        >>> prototypes = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> assign_labels(features, prototypes, 2).indices
        tensor([0, 1, 1, 2])
        >>> assign_labels(features, prototypes, 2, assignment="greedy").indices
        tensor([0, 3, 1, 2])
    """
    check_features("features", features, "M, D")
    check_prototypes(prototypes, features)
    check_option("assignment", assignment, ASSIGNMENTS)
    check_option("metric", metric, METRICS)
    counts = class_counts(count, prototypes.shape[-2], len(features))
    check_capacity("count", counts, assignment, len(features))

    dtype = result_dtype(features)
    similarity = prototype_similarity(split_rows(features, metric), prototypes, dtype)
    prototypes = prototypes.detach().to(dtype)
    return assign(similarity, prototypes, counts, assignment, metric)


def assign(
    similarity: Tensor, prototypes: Tensor, counts: tuple[int, ...], assignment: str, metric: str
) -> PseudoLabels:
    """Assigns by similarities ``(*heads, K, M)``; the arguments are checked.

    Every rule says which samples a cluster may take; the cluster then takes its nearest of them.
    """
    num_classes = similarity.shape[-2]
    if assignment in ("greedy", "optimal"):
        check_has_values("features", similarity)
    if assignment != "overlap":
        owner = _OWNERS[assignment](similarity, counts).unsqueeze(-2)
        clusters = torch.arange(num_classes, device=similarity.device).unsqueeze(-1)
        similarity = similarity.masked_fill(owner != clusters, -torch.inf)
    values, order = sort_descending(similarity)
    values, order = values[..., : max(counts)], order[..., : max(counts)]
    taken = (keep_counts(order, counts) >= 0) & (values > -torch.inf)

    clusters = torch.arange(num_classes, device=similarity.device).unsqueeze(-1)
    return PseudoLabels(
        indices=_entries(torch.where(taken, order, -1), counts),
        labels=_entries(torch.where(taken, clusters, -1), counts),
        similarity=_entries(values, counts),
        prototypes=prototypes,
        metric=metric,
    )


def prototype_similarity(rows: Rows, prototypes: Tensor, dtype: torch.dtype) -> Tensor:
    """Similarities ``(*heads, K, M)`` to features that come split, in the dtype to report."""
    similarity = similarity_matrix(split_rows(prototypes.flatten(0, -2), rows.metric), rows)
    similarity = similarity.clamp(min=torch.finfo(dtype).min)  # -inf is for what is not admitted
    return similarity.to(dtype).reshape(*prototypes.shape[:-1], len(rows.scale))


def check_prototypes(prototypes: Tensor, features: Tensor) -> None:
    """Checks prototypes against the features they will be compared with."""
    check_floating("prototypes", prototypes, "*heads, K, D")
    check_device("prototypes", prototypes, features)
    if prototypes.shape[-1] != features.shape[-1] or prototypes.shape[-2] == 0:
        expected = f"shape (*heads, K, {features.shape[-1]}) (the features' dimension)"
        wrong_value("prototypes", expected, prototypes)


def check_capacity(name: str, counts: Sequence[int], assignment: str, num_samples: int) -> None:
    """Checks that an exclusive assignment has enough samples for its counts."""
    exclusive = assignment in ("greedy", "optimal", "sequential")
    if exclusive and sum(counts) > num_samples:
        expected = f"counts that sum to at most {num_samples} under {assignment!r}"
        wrong_value(name, expected, sum(counts))


def _entries(table: Tensor, counts: Sequence[int]) -> Tensor:
    """Lays out a ``(*heads, K, widest)`` table as ``(*heads, sum(counts))`` entries."""
    flat, widest = table.flatten(-2), max(counts)
    if min(counts) == widest:
        return flat
    places = [c * widest + place for c, count in enumerate(counts) for place in range(count)]
    return flat[..., torch.tensor(places, device=table.device)]
