"""Similarities without rounding, of the pairs of rows that are listed."""

from __future__ import annotations

import torch
from torch import Tensor

from pseudolabel._numerics import similarity_of_pairs, split_rows
from pseudolabel.neighbors._source import Source


def exactly(
    a: Tensor, b: Tensor | Source, i: Tensor, j: Tensor, metric: str, *, rows: int
) -> Tensor:
    """The similarity of each row of ``a[i]`` to one of ``b[j]``.

    Args:
        a: ``(n, D)``.
        b: ``(m, D)``.
        i: int64 ``(P,)``, ascending.
        j: int64 ``(P,)``, different ones where i is the same.
        metric: ``"cosine"`` or ``"euclidean"``.
        rows: How many of a, and of b, are split at a time.

    Returns:
        float64 ``(P,)``.
    """
    similarity = i.new_empty(len(i), dtype=torch.float64)
    blocks, order = (j // rows).sort(stable=True)
    # A row of b is split once, one of a for each block of b that it meets.
    for block in torch.split(order, torch.bincount(blocks).tolist()):
        if len(block) == 0:
            continue
        listed, column = torch.unique(j[block], return_inverse=True)
        right = split_rows(b[listed], metric)
        own, row = torch.unique_consecutive(i[block], return_inverse=True)
        for start in range(0, len(own), rows):
            some = slice(*torch.searchsorted(row, row.new_tensor([start, start + rows])).tolist())
            left = split_rows(a[own[start : start + rows]], metric)
            found = similarity_of_pairs(left, right, row[some] - start, column[some])
            similarity[block[some]] = found
    return similarity
