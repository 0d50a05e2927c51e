"""The two literal rules a mask or a selection can promise to be, as plainly as can be."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pseudolabel._numerics import as_fraction


class Verdict(NamedTuple):
    """Bool ``(N,)`` each: who must be kept, and who may be (the rest hangs on a tie)."""

    must: Tensor
    may: Tensor


def needed_votes(k: int, threshold: float, strict: bool) -> int:
    """The least number of k neighbours whose share passes the threshold, in integers."""
    exact = as_fraction(threshold) * k
    return floor(exact) + 1 if strict else ceil(exact)


def literal_mask(
    features: Tensor,
    labels: Tensor,
    *,
    k: int,
    threshold: float,
    strict: bool,
    include_self: bool,
    metric: str,
    ties: str,
) -> Verdict:
    """Keeps a sample if the share of its k nearest that carry its label passes the threshold.

    A sample labelled -1 is never kept and agrees with nobody. Where different rows are equally
    near, or nearer to equal than float32 can tell, either answer is allowed.
    """
    rows, table = features.double().numpy(), _similarity(features, metric)
    names = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    given, size = labels.tolist(), len(rows)
    needed, must, may = needed_votes(k, threshold, strict), [], []
    for me in range(size):
        always = include_self and ties != "any"
        others = [j for j in range(size) if j != me or (include_self and not always)]
        sign = -1 if ties == "highest" else 1
        others.sort(key=lambda j: (-table.value[me, j], sign * j))
        least, most = _votes(
            others, k - always, me, table.value[me], table.tolerance[me], names, given, ties
        )
        labelled = given[me] >= 0
        must.append(labelled and least + always >= needed)
        may.append(labelled and most + always >= needed)
    return Verdict(torch.tensor(must), torch.tensor(may))


def literal_selection(probs: Tensor, threshold: float, strict: bool) -> tuple[Tensor, Verdict]:
    """The most probable class (ties: the lowest), and whether its probability passes."""
    wide = probs if probs.dtype == torch.float64 else probs.float()
    limit = torch.tensor(float(Fraction(as_fraction(threshold))), dtype=wide.dtype)
    confidence, targets = wide.amax(-1), wide.argmax(-1)
    passed = confidence > limit if strict else confidence >= limit
    near = ((confidence - limit).abs() < 1e-6) & (confidence != limit)
    return targets, Verdict(passed & ~near, passed | near)


class _Table(NamedTuple):
    value: np.ndarray
    tolerance: np.ndarray


def _similarity(features: Tensor, metric: str) -> _Table:
    rows = features.double().numpy()
    norms = np.sqrt((rows * rows).sum(-1))
    if metric == "cosine":
        rows = rows / np.where(norms > 0, norms, 1)[:, None]
        return _Table(_products(rows), np.full(len(rows), 1e-5))
    if metric == "dot":
        return _Table(_products(rows), 1e-5 * norms * norms.max())
    distance = np.sqrt(((rows[:, None] - rows) ** 2).sum(-1))
    return _Table(-distance, np.full(len(rows), 1e-3 * max(norms.max(), 1e-30)))


def _products(rows: np.ndarray) -> np.ndarray:
    table: np.ndarray = (rows[:, None] * rows).sum(-1)
    return table


def _votes(
    order: list[int],
    places: int,
    me: int,
    value: np.ndarray,
    tolerance: float,
    names: np.ndarray,
    given: list[int],
    ties: str,
) -> tuple[int, int]:
    """The least and most votes for a sample's label among its nearest, over all ways to tie."""
    if places == 0:
        return 0, 0
    edge = value[order[places - 1]]
    near = [j for j in order if abs(value[j] - edge) <= tolerance]
    if ties != "any" and len({names[j] for j in near}) == 1:
        near = []
    # Without a doubtful place the order itself decides, equal rows by their index.
    first = order[:places] if not near else [j for j in order if value[j] > edge + tolerance]
    sure = sum(given[j] == given[me] for j in first)
    free = places - len(first)
    agree = sum(given[j] == given[me] for j in near)
    return sure + max(0, free - (len(near) - agree)), sure + min(free, agree)
