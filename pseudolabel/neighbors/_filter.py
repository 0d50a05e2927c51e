r"""Rows of few bits for a fast first pass, and the proof that the pass loses nobody.

A score :math:`f_{ij}` of two rounded rows stands for the exact score :math:`g_{ij}`, which is their
cosine, or :math:`-d^2/2` in units of the largest row. With :math:`|f_{ij} - g_{ij}| \le E_i` and
:math:`\varphi_i` the k-th largest score of sample i,

.. math:: f_{ij} \ge \varphi_i - 2 E_i \quad\text{for every true neighbour } j,

ties included: k samples have :math:`g \ge \varphi_i - E_i`, so a true neighbour has that as well,
and its :math:`f` is at most :math:`E_i` less. And whoever has :math:`f > \varphi_i + 2 E_i` is a
neighbour for certain: only those k - 1 with a larger :math:`f` can be nearer. `Filter.floor` and
`Filter.certain` are these two lines; `Filter.encode` gives :math:`2 E_i`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pseudolabel._numerics import without_autocast
from pseudolabel.neighbors._source import Source

_ENCODED_ELEMENTS = 2**18  # at a time, in float64


class Frame:
    """The rows that products are taken of: on the unit sphere, or centred and of norm 1 at most.

    Args:
        source: The rows to search in.
        asked: The rows to search for.
        metric: ``"cosine"`` or ``"euclidean"``.
    """

    def __init__(self, source: Source, asked: Source, metric: str) -> None:
        self.metric = metric
        one = torch.ones((), dtype=torch.float64, device=source.device)
        self.centre, self.scale, reach = 0 * one, one, 0 * one
        self.sources = [source] if asked is source else [source, asked]
        if metric == "euclidean":  # distances do not see the centre, roundings do
            means = [(block.double() / len(source)).sum(0) for block in source.blocks()]
            self.centre = torch.stack(means).sum(0)
            self.scale = _positive(self._largest(lambda x: _largest_norm(x - self.centre)))
            reach = self._largest(_largest_norm) / self.scale
        self.error = 2.0**-50 * (1 + reach)  # of a row as `rows` gives it, at most

    def rows(self, x: Tensor) -> Tensor:
        """Float64 rows ``(B, D)``."""
        x = x.double()
        if self.metric == "cosine":
            x = x / _positive(x.abs().amax(-1, keepdim=True))
            return x / _positive(torch.linalg.vector_norm(x, dim=-1, keepdim=True))
        return (x - self.centre) / self.scale

    def _largest(self, size: Callable[[Tensor], Tensor]) -> Tensor:
        blocks = (block for rows in self.sources for block in rows.blocks())
        return torch.stack([size(block.double()) for block in blocks]).max()


class Encoded(NamedTuple):
    """Rows as a filter multiplies them.

    Attributes:
        rows: ``(B, D')`` in the filter's dtype; see `Filter.mirrored` for the other side.
        slack: float32 ``(B,)``, :math:`2 E_i`.
    """

    rows: Tensor
    slack: Tensor


class Filter:
    r"""Rows of few bits, their products, and how far those may be off.

    Rows are rounded about their mean :math:`c`, which makes the errors small, too: with
    :math:`o_i = a_i \cdot c - c^2 / 2` under the cosine and :math:`o_i = -(a_i - c)^2 / 2` for
    distances,

    .. math:: g_{ij} = (a_i - c) \cdot (a_j - c) + o_i + o_j

    is one product of rows that carry their :math:`o`, in pieces that add up to a float32, beside
    as many ones. Cosines of float32 rows are close enough without.

    Args:
        frame: The rows before they are rounded.
        dtype: Of the rounded rows: float32, bfloat16 or float16.
    """

    def __init__(self, frame: Frame, dtype: torch.dtype) -> None:
        self.frame, self.dtype = frame, dtype
        self.pieces = 3 if dtype != torch.float32 else int(frame.metric == "euclidean")
        self.mean = torch.zeros_like(frame.scale)
        if frame.metric == "cosine" and self.pieces:
            total = len(frame.sources[0])
            means = [frame.rows(block).sum(0) / total for block in frame.sources[0].blocks()]
            self.mean = torch.stack(means).sum(0)
        blocks = (block for rows in frame.sources for block in rows.blocks())
        worst = [self._largest(*self._shifted(block)) for block in blocks]
        self.longest, self.farthest, self.coarsest = torch.stack(worst).amax(0)

    def encode(self, x: Tensor) -> Encoded:
        """Rows whose products with `mirrored` rows are the scores, and their slack."""
        some = torch.split(x, max(1, _ENCODED_ELEMENTS // x.shape[1]))
        pieces = [self._encode(rows) for rows in some]
        rows, slack = (torch.cat(fields) for fields in zip(*pieces, strict=True))
        return Encoded(rows, slack)

    def _shifted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Float64 rows about the mean, and the offsets of their products."""
        rows = self.frame.rows(x)
        if self.frame.metric == "euclidean":
            return rows, rows.square().sum(1) / -2
        offset = (rows * self.mean).sum(1) - self.mean.square().sum() / 2
        return rows - self.mean, offset if self.pieces else 0 * offset

    def _largest(self, rows: Tensor, offset: Tensor) -> Tensor:
        """The largest norm, offset and rounding of some rows."""
        norm = torch.linalg.vector_norm(rows, dim=1)
        off = self._off(rows, rows.to(self.dtype))
        return torch.stack([norm.max(), offset.abs().max(), off.max()])

    def _encode(self, x: Tensor) -> Encoded:
        plain, offset = self._shifted(x)
        rows = plain.to(self.dtype)
        # |a.b - a'.b'| <= |a - a'| |b| + |a'| |b - b'|
        norm, off = torch.linalg.vector_norm(plain, dim=1), self._off(plain, rows)
        error = off * self.longest + (norm + off) * self.coarsest
        pieces, rest = [], offset.unsqueeze(1)
        for _ in range(self.pieces):
            pieces.append(rest.to(self.dtype))
            rest = rest - pieces[-1].double()
        rows = torch.cat([rows, *pieces, *(torch.ones_like(piece) for piece in pieces)], dim=1)
        # Adding n products in any order is off by about n u times the sum of their sizes.
        summing = (rows.shape[1] + 32) * _summing_roundoff(self.dtype)
        summing = summing / (1 - summing) if summing < 1 else float("inf")
        sizes = norm * self.longest + offset.abs() + self.farthest
        error = error + summing * (sizes + self.coarsest)
        return Encoded(rows, (2.001 * error).float())

    def _off(self, plain: Tensor, rows: Tensor) -> Tensor:
        """How far rounded rows are from the exact ones, which the plain ones are not quite."""
        off: Tensor = torch.linalg.vector_norm(plain - rows.double(), dim=-1)
        return off + self.frame.error

    def mirrored(self, rows: Tensor) -> Tensor:
        """Encoded rows as the other side of a product needs them: ones first, then offsets."""
        if self.pieces == 0:
            return rows
        start, middle = rows.shape[1] - 2 * self.pieces, rows.shape[1] - self.pieces
        return torch.cat([rows[:, :start], rows[:, middle:], rows[:, start:middle]], dim=1)

    def scores(self, rows: Tensor, mirrored: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Scores ``(B, n)``, on a GPU in float32."""
        with without_autocast(rows.device):
            if rows.is_cuda and self.dtype != torch.float32:  # cuda
                scores: Tensor = torch.mm(rows, mirrored.T, out_dtype=torch.float32)
                return scores
            return torch.mm(rows, mirrored.T, out=out)

    def floor(self, kth: Tensor, slack: Tensor) -> Tensor:
        """The score below which nobody is among the k nearest, given the k-th largest score."""
        wide = kth.float()
        return (wide - slack - _half_unit(wide, kth.dtype)).to(kth.dtype)

    def certain(self, scores: Tensor, kth: Tensor, slack: Tensor) -> Tensor:
        """Which scores ``(B, n)`` are of the k nearest for certain."""
        wide, limit = scores.float(), kth.float()
        limit = limit + slack + _half_unit(limit, kth.dtype)
        return wide - _half_unit(wide, scores.dtype) > limit.unsqueeze(-1)


@lru_cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """The dtype whose products are fastest here: a race on the CPU, float16 on a recent GPU."""
    if device.type == "cuda":  # cuda
        version = tuple(int(part) for part in torch.__version__.split(".")[:2])
        capable = version >= (2, 8) and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.float16 if capable else torch.float32
    if device.type != "cpu":
        return torch.float32
    rows = torch.ones(512, 256, device=device)
    return torch.bfloat16 if _seconds(rows.bfloat16()) < 0.7 * _seconds(rows) else torch.float32


def _seconds(rows: Tensor) -> float:
    """Of the fastest of a few products."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(rows, rows.T)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _half_unit(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Half the spacing of ``dtype`` at x, which a product rounded to it may be off by."""
    if dtype == torch.float32:  # is part of the slack
        return torch.zeros_like(x)
    digits = 8 if dtype == torch.bfloat16 else 11
    return torch.ldexp(torch.ones_like(x), torch.frexp(x).exponent - digits - 1)


def _summing_roundoff(dtype: torch.dtype) -> float:
    """Of sums of products. Matrix units may round float32 sums less carefully, hence the 4."""
    if dtype != torch.float32:
        return 4 * 2.0**-24
    try:
        full = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # configured backend by backend: whichever it is, assume the least
        full = False
    return 2.0**-24 if full else 2.0**-8


def _largest_norm(x: Tensor) -> Tensor:
    unit = _positive(x.abs().max())  # squares of huge rows stay finite
    norm: Tensor = torch.linalg.vector_norm(x / unit, dim=-1).max()
    return unit * norm


def _positive(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1)
