"""Products of the pairs of rows that are listed, and of no others."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad


def products_of_pairs(left: Tensor, right: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The product of each row of ``left[rows]`` with one of ``right[columns]``.

    Args:
        left: float64 ``(n, D)``.
        right: float64 ``(m, D)``.
        rows: int64 ``(P,)``, ascending.
        columns: int64 ``(P,)``, of different ones where the row is the same.

    Returns:
        float64 ``(P,)``.
    """
    if left.device.type != "cpu":  # cuda
        size = len(left) + len(right)  # no more memory than the rows themselves, a few times
        pieces = zip(torch.split(rows, size), torch.split(columns, size), strict=True)
        return torch.cat([(left[i] * right[j]).sum(-1) for i, j in pieces])
    _quietly()
    pattern = _pattern(rows, columns, (len(left), len(right)))
    products: Tensor = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0).values()
    return products


@cache
def _quietly() -> None:
    """Makes torch say once, where nobody hears, that its sparse tensors are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
        _pattern(nothing, nothing, (1, 1))


def _pattern(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """A sparse matrix of zeros at places told row by row."""
    starts = pad(torch.bincount(rows, minlength=size[0]).cumsum(0), (1, 0))
    zeros = columns.new_zeros(len(columns), dtype=torch.float64)
    return torch.sparse_csr_tensor(
        starts, columns, zeros, size, device=columns.device, check_invariants=False
    )
