"""Prototype labels over sharded samples: the rules of one process on what the ranks gather."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from pseudolabel._checks import (
    check_device,
    check_floating,
    check_option,
    check_probs,
    check_real,
    wrong_value,
)
from pseudolabel._numerics import result_dtype, sort_descending, split_rows, unit_rows
from pseudolabel.distributed._ranks import Ranks
from pseudolabel.prototypes import class_prototypes, select_confident
from pseudolabel.prototypes._counts import class_shares, scaled_counts
from pseudolabel.prototypes.assignment import (
    ASSIGNMENTS,
    METRICS,
    Assignment,
    Metric,
    assign,
    prototype_similarity,
)
from pseudolabel.prototypes.selection import keep_counts
from pseudolabel.types import PseudoLabels

_ROWS_AT_A_TIME = 16_384  # selected rows that a rank holds beside its own


@torch.no_grad()
def prototype_labels(
    features: Tensor,
    probs: Tensor,
    *,
    prototype_ratio: float = 0.5,
    label_ratio: float = 1.0,
    prior: Sequence[float] | Tensor | None = None,
    assignment: Assignment = "overlap",
    metric: Metric = "cosine",
    process_group: dist.ProcessGroup | None = None,
) -> PseudoLabels:
    """`pseudolabel.prototype_labels` over the samples of all ranks (SPICE Eq. 2-4).

    Prototypes are those of the global batch, and the answer is that of one process to the last bit.
    Ranks send each other the rows that make prototypes, 16,384 at a time, and probabilities and
    similarities of the samples that may be chosen: those that are among the ``count`` best of a
    cluster on their own rank, or all of them under ``"greedy"``, ``"optimal"`` and
    ``"sequential"``.

    Args:
        features: This rank's ``(M_r, D)``; M_r may be 0.
        probs: This rank's ``(*heads, M_r, K)``.
        prototype_ratio: See `pseudolabel.prototype_labels`, like the others, with M the samples of
            all ranks.
        label_ratio: See there.
        prior: See there.
        assignment: See there.
        metric: See there.
        process_group: The ranks that share the samples; None means all.

    Returns:
        PseudoLabels, the same on every rank, with global indices.

    Raises:
        TypeError: If an argument is of the wrong kind on this rank.
        ValueError: If an argument is wrong on any rank, or not the same on all, or ``M < K``.
        RuntimeError: If another rank has died, within the group's timeout.

    Example:
        >>> import torch
        >>> from pseudolabel import distributed
        >>> features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0]])
        >>> probs = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> distributed.prototype_labels(features, probs).dense(4)  # of one rank
        tensor([0, 0, 1, 1])
    """
    ranks = Ranks(process_group)

    def check() -> Mapping[str, object]:
        check_floating("features", features, "M, D")
        check_probs("probs", probs, "*heads, M, K")
        check_device("probs", probs, features)
        if probs.shape[-2] != len(features):
            wrong_value("probs", f"{len(features)} rows, one for each feature", probs)
        if features.shape[1] == 0 or probs.shape[-1] == 0:
            wrong_value("features, probs", "at least one dimension and one class", probs)
        check_real("prototype_ratio", prototype_ratio, low_open=True)
        check_real("label_ratio", label_ratio, low_open=True)
        check_option("assignment", assignment, ASSIGNMENTS)
        check_option("metric", metric, METRICS)
        return {
            "features": f"{features.dtype} of {features.shape[1]} dimensions",
            "probs": f"{probs.dtype} of {(*probs.shape[:-2], 'M', probs.shape[-1])}",
            "prototype_ratio": prototype_ratio,
            "label_ratio": label_ratio,
            "prior": class_shares(10**6, probs.shape[-1], prior),
            "assignment": assignment,
            "metric": metric,
        }

    ranks.agree(len(features) if isinstance(features, Tensor) and features.ndim else 0, check)
    num_classes = probs.shape[-1]
    if ranks.total < num_classes:
        expected = f"as many samples on all ranks as classes ({num_classes})"
        wrong_value("probs", expected, ranks.total)
    shares = class_shares(ranks.total, num_classes, prior)

    rows, averaged, dtype = split_rows(features, metric), features.detach(), result_dtype(features)
    if metric == "cosine":
        averaged = unit_rows(averaged, rows).to(dtype)
    counts = scaled_counts(shares, prototype_ratio)
    table = probs.detach().mT.contiguous()
    best, samples = _columns(ranks, table, _candidates(table, counts))
    selected = _renamed(select_confident(best.mT, counts), samples)
    prototypes = _prototypes(ranks, averaged, selected)

    counts = scaled_counts(shares, label_ratio)
    table = prototype_similarity(rows, prototypes, dtype)
    exclusive = assignment not in ("overlap", "nearest")
    everybody = torch.arange(len(features), device=table.device)
    chosen = everybody if exclusive else _candidates(table, counts)
    similarity, samples = _columns(ranks, table, chosen)
    pseudo = assign(similarity, prototypes, counts, assignment, metric)
    return pseudo._replace(indices=_renamed(pseudo.indices, samples))


def _candidates(table: Tensor, counts: Sequence[int]) -> Tensor:
    """The samples ``(U,)`` in ascending order that are among the best of any cluster.

    Args:
        table: ``(*heads, K, M_r)``.
        counts: How many of every cluster.
    """
    _, order = sort_descending(table)
    counts = tuple(min(count, table.shape[-1]) for count in counts)
    order = order[..., : max(counts)]
    best = keep_counts(order, counts) if table.shape[-1] else order
    chosen: Tensor = torch.unique(best[best >= 0])
    return chosen


def _columns(ranks: Ranks, table: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Some samples' columns ``(*heads, K, U)`` of all ranks, and which samples they are.

    The samples stay in order, so that a tie in the columns goes the same way as one in the table.
    """
    sizes = ranks.exchange(len(columns))
    values = table[..., columns].flatten(0, -2).T.contiguous()
    gathered = ranks.gather(values, sizes).T.contiguous()
    samples = ranks.gather(columns + ranks.own.start, sizes)
    return gathered.reshape(*table.shape[:-1], len(samples)), samples


def _renamed(indices: Tensor, samples: Tensor) -> Tensor:
    """Indices into ``samples`` as what they stand for; -1 stays."""
    return torch.where(indices >= 0, samples[indices.clamp(min=0)], -1)


def _prototypes(ranks: Ranks, averaged: Tensor, selected: Tensor) -> Tensor:
    """The means ``(*heads, K, D)`` of the rows selected, in the order that they are selected in."""
    bags = selected.flatten(0, -2)
    ends = torch.tensor([*ranks.offsets[1:], ranks.total], device=bags.device)
    means = []
    for some in torch.split(bags, max(1, _ROWS_AT_A_TIME // bags.shape[1])):
        wanted = torch.unique(some[some >= 0])
        held = torch.searchsorted(wanted, ends)  # how many up to the end of every rank's
        sizes = torch.diff(held, prepend=held.new_zeros(1)).tolist()
        mine = wanted[(wanted >= ranks.own.start) & (wanted < ranks.own.stop)]
        rows = ranks.gather(averaged[mine - ranks.own.start], sizes)
        places = torch.searchsorted(wanted, some.clamp(min=0))
        means.append(class_prototypes(rows, torch.where(some >= 0, places, -1)))
    return torch.cat(means).reshape(*selected.shape[:-1], averaged.shape[-1])
