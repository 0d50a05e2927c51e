r"""Similarities that depend on their two rows alone, stable orders and exact counts.

A float dot product depends on the order of its additions, and with it on the block, the number of
heads, the device and the library: identical rows then get different products and ties break at
random. Here each row is scaled by a power of two and split into parts of a few bits,

.. math:: x = s \, (x_1 + x_2 + \dots), \qquad x_p \in 2^{-pb}\,\mathbb{Z},

so few that a product of parts, summed over all ``D`` places, needs at most 53 bits. Every partial
sum is then a float64 without rounding, in whatever order it is added: a matrix product is exact,
and the same on every path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pseudolabel._sampled import products_of_pairs

_FLOAT64_EXPONENT_BITS = 0x7FF0_0000_0000_0000
_PARTS = 3
_SPLIT_ELEMENTS = 2**17  # at a time on a CPU: a dozen passes over rows that stay in the cache


@dataclass(frozen=True)
class Rows:
    """Rows of features, split into exactly multipliable parts.

    Attributes:
        metric: ``"cosine"`` or ``"euclidean"``, what the rows will be compared by.
        parts: float32 tensors ``(..., D)``, most significant first.
        scale: float64 ``(...)``, the power of two that was divided out.
        squared_norm: float64 tensors ``(...)``, the squared norm of the scaled rows level by level.
    """

    metric: str
    parts: tuple[Tensor, ...]
    scale: Tensor
    squared_norm: tuple[Tensor, ...]

    def doubled(self) -> tuple[Tensor, ...]:
        """The parts in float64, of which products are exact."""
        return tuple(part.double() for part in self.parts)

    def sizes(self, index: Tensor) -> Rows:
        """What norms and scales say of the rows at an index, without their parts."""
        norms = tuple(level[index] for level in self.squared_norm)
        return Rows(self.metric, (), self.scale[index], norms)

    def __getitem__(self, index: Tensor | slice | tuple[slice | None, ...]) -> Rows:
        """The rows at an index into their first axis."""
        return Rows(
            self.metric,
            tuple(part[index] for part in self.parts),
            self.scale[index],
            tuple(level[index] for level in self.squared_norm),
        )


def split_rows(x: Tensor, metric: str) -> Rows:
    """Splits the rows of ``(n, D)``: 57 bits from the largest entry down at ``D = 512``."""
    size = max(1, _SPLIT_ELEMENTS // x.shape[-1])
    if len(x) <= size or x.device.type != "cpu" or torch.compiler.is_compiling():
        return _split(x, metric)
    pieces = [_split(some, metric) for some in torch.split(x, size)]
    return Rows(
        metric,
        tuple(torch.cat(part) for part in zip(*(piece.parts for piece in pieces), strict=True)),
        torch.cat([piece.scale for piece in pieces]),
        tuple(torch.cat(level) for level in zip(*(p.squared_norm for p in pieces), strict=True)),
    )


def _split(x: Tensor, metric: str) -> Rows:
    scale = _power_of_two(x.abs().amax(-1).double())
    rest = x.double() / scale.unsqueeze(-1)
    # |rest| < 2: D products of two first parts stay below 2^(2 bits + 2 + log2 D). Four of 53 bits
    # are spare: two for |a|^2 + |b|^2 - 2ab, two for scales that differ by a factor of 2.
    bits = (47 - (x.shape[-1] - 1).bit_length()) // 2
    parts = []
    for place in range(1, _PARTS + 1):
        part = (rest * 2.0 ** (place * bits)).round_().mul_(2.0 ** (-place * bits))
        parts.append(part)
        rest = rest - part
    squared_norm = _levels(parts, parts, metric, lambda x, y: (x * y).sum(-1))
    return Rows(metric, tuple(part.float() for part in parts), scale, squared_norm)


def similarity_matrix(a: Rows, b: Rows) -> Tensor:
    """Float64 similarity of each row of ``a`` to each row of ``b``: ``(n, D), (m, D) -> (n, m)``.

    The similarity is the cosine (0 for a zero row) or minus the Euclidean distance.
    """
    return _similarity(_products(a, b), a[:, None], b)


def similarity_of_pairs(a: Rows, b: Rows, i: Tensor, j: Tensor) -> Tensor:
    """Float64 similarity ``(P,)`` of each row ``a[i]`` to ``b[j]``: no pair twice, i ascending."""
    pairs = partial(products_of_pairs, rows=i, columns=j)
    products = _levels(a.doubled(), b.doubled(), a.metric, pairs)
    return _similarity(products, a.sizes(i), b.sizes(j))


def unit_rows(x: Tensor, rows: Rows) -> Tensor:
    """L2-normalises ``(n, D)``, given its split, in float64; a zero row stays zero."""
    norm = _total(rows.squared_norm).sqrt() * rows.scale
    return x.double() / torch.where(norm > 0, norm, 1).unsqueeze(-1)


def result_dtype(x: Tensor) -> torch.dtype:
    """The dtype of similarities and prototypes: float32, or float64 for float64 input."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Products in the dtype of their factors, whatever region the caller is in."""
    if device.type == "meta":  # has no such regions, and may not be named as one
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def sort_descending(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and indices along the last axis, largest first, ties to the lowest index."""
    x = torch.where(x == 0, 0.0, x)  # a radix sort would put 0.0 before -0.0
    values, indices = torch.sort(x, dim=-1, descending=True, stable=True)
    return values, indices


def as_fraction(x: float) -> Fraction:
    """Reads a number as the decimal or ratio it was written as: 0.29, 1/3 and a float32 alike."""
    if isinstance(x, (int, np.integer)):
        return Fraction(int(x))
    exact = Fraction(str(x))
    simple = exact.limit_denominator(10**6)
    if simple == exact:
        return exact
    rounded = simple.numerator / simple.denominator  # which older compilers can follow
    return simple if float(x) in (rounded, float(np.float32(rounded))) else exact


def _power_of_two(largest: Tensor) -> Tensor:
    """The power of two at or below each value, by its exponent bits; 1 for 0."""
    power = (largest.view(torch.int64) & _FLOAT64_EXPONENT_BITS).view(torch.float64)
    return torch.where(power > 0, power, 1.0)


def _products(a: Rows, b: Rows) -> tuple[Tensor, ...]:
    """The products of all rows of ``a`` with all rows of ``b``, level by level."""
    return _levels(a.doubled(), b.doubled(), a.metric, lambda x, y: x @ y.mT)


def _levels(
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    metric: str,
    product: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, ...]:
    """Products of the parts, added up by significance; each level is exact.

    The last levels lie below float64's rounding of a cosine; of the distance between rows that
    share their first parts they are all there is.
    """
    levels = []
    for level in range(_PARTS if metric == "cosine" else 2 * _PARTS - 1):
        first, last = max(0, level - _PARTS + 1), min(level, _PARTS - 1)
        total = product(a[first], b[level - first])
        for place in range(first + 1, last + 1):
            total = total + product(a[place], b[level - place])
        levels.append(total)
    return tuple(levels)


def _total(levels: tuple[Tensor, ...]) -> Tensor:
    """Adds levels, least significant first."""
    total = levels[-1]
    for level in reversed(levels[:-1]):
        total = total + level
    return total


def _compensated_total(levels: tuple[Tensor, ...]) -> Tensor:
    """Adds levels that may cancel, and what each addition rounded off (Knuth's two-sum)."""
    total, lost = levels[-1], torch.zeros_like(levels[-1])
    for level in reversed(levels[:-1]):
        added = total + level
        part = added - total
        lost = lost + ((total - (added - part)) + (level - part))
        total = added
    return total + lost


def _similarity(products: tuple[Tensor, ...], a: Rows, b: Rows) -> Tensor:
    if a.metric == "cosine":
        dot, norms = _total(products), _total(a.squared_norm) * _total(b.squared_norm)
        # dot^2 / (|a|^2 |b|^2) rounds once where its terms are exact: collinear integer rows tie.
        cosine = torch.sign(dot) * torch.sqrt(dot * dot / torch.where(norms > 0, norms, 1))
        return cosine.clamp(-1, 1)
    scale = torch.maximum(a.scale, b.scale)
    ra, rb = a.scale / scale, b.scale / scale
    # Level by level, so that what a and b share cancels before anything is rounded.
    squares = tuple(
        aa * (ra * ra) + bb * (rb * rb) - 2 * ab * (ra * rb)
        for aa, bb, ab in zip(a.squared_norm, b.squared_norm, products, strict=True)
    )
    return 0.0 - scale * torch.sqrt(_compensated_total(squares).clamp(min=0))
