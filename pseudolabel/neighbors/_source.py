"""Rows of features, wherever they are kept: a tensor, an array, or an array on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import (
    FLOATING,
    check_has_values,
    values_are_checked,
    wrong_type,
    wrong_value,
)

_BLOCK_ELEMENTS = 2**18  # of features converted at a time


class Source:
    """Rows of a tensor or a NumPy array (memory-mapped too), read as tensors when asked for."""

    def __init__(self, name: str, data: Tensor | np.ndarray) -> None:
        axes = "a floating-point tensor or NumPy array of shape (N, D)"
        if not isinstance(data, (Tensor, np.ndarray)):
            wrong_type(name, axes, data)
        floating = (
            data.dtype in FLOATING
            if isinstance(data, Tensor)
            else data.dtype.newbyteorder("=") in (np.float16, np.float32, np.float64)
        )
        if not floating:
            wrong_type(name, "a floating-point dtype", data)
        if data.ndim != 2 or 0 in data.shape:
            wrong_value(name, "shape (N, D) with at least one row and one dimension", data)
        if isinstance(data, Tensor):
            check_has_values(name, data)
        self.data = data
        first = self[0:1]
        self.device, self.dtype = first.device, first.dtype
        for block in self.blocks():
            if values_are_checked(block) and not torch.isfinite(block).all():
                wrong_value(name, "finite values", block[~torch.isfinite(block)][0].item())

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def dimension(self) -> int:
        """The feature dimension D."""
        return int(self.data.shape[1])

    def fingerprint(self) -> str:
        """A digest of shape, dtype and every value."""
        digest = hashlib.blake2b(f"{tuple(self.data.shape)} {self.dtype}".encode(), digest_size=16)
        for block in self.blocks():
            digest.update(block.cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        if isinstance(self.data, Tensor):
            return self.data.detach()[rows]
        picked = self.data[rows.numpy() if isinstance(rows, Tensor) else rows]
        return torch.from_numpy(np.array(picked, dtype=picked.dtype.newbyteorder("=")))

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[Tensor]:
        """The rows in order, a bounded number at a time: all, or ``count`` from ``start`` on."""
        size = max(1, _BLOCK_ELEMENTS // self.dimension)
        stop = len(self) if count is None else min(start + count, len(self))
        for first in range(start, stop, size):
            yield self[first : min(first + size, stop)]
