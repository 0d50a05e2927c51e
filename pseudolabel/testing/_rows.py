"""Rows decoded from bytes: one draw a sample, and every byte shrinks to 0, the simplest value."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

FEATURE_STYLES = (
    "grid",
    "decimals",
    "duplicates",
    "zero_rows",
    "collinear",
    "low_rank",
    "clustered",
    "norms",
)
PROB_STYLES = (
    "weights",
    "ties",
    "one_hot",
    "uniform",
    "saturated",
    "near_ties",
    "imbalanced",
)

_FACTORS = (1.0, 2.0, 4.0, -1.0, 0.5)
_NORMS = (1.0, 10.0, 0.1, 1e3, 1e-3)


class Decoder(NamedTuple):
    """How a row is read from bytes.

    Attributes:
        size: How many bytes a row takes.
        decode: Reads them.
        pool: How many rows there are to choose from by the first byte; 0 where there is no pool.
    """

    size: int
    decode: Callable[[bytes], list[float]]
    pool: int = 0


def feature_decoder(draw: st.DrawFn, style: str, dim: int) -> Decoder:
    """A decoder for rows of one style; what the rows share is drawn here."""
    if style == "grid":
        return Decoder(dim, lambda b: [float(_signed(x % 7)) for x in b])
    if style == "decimals":
        return Decoder(dim, _decimals)
    if style == "norms":
        return Decoder(dim + 1, lambda b: [x * _of(_NORMS, b[0]) for x in _decimals(b[1:])])
    drawn = draw(st.lists(st.binary(min_size=dim, max_size=dim), min_size=2, max_size=4))
    pool = [_decimals(b) for b in drawn]
    if style == "zero_rows":
        pool = [[0.0] * dim, *pool]
    if style == "collinear":
        return Decoder(2, lambda b: [x * _of(_FACTORS, b[1]) for x in _of(pool, b[0])])
    if style == "low_rank":
        first, second = np.array(pool[0]), np.array(pool[1])
        return Decoder(
            2, lambda b: (_signed(b[0] % 11) * first + _signed(b[1] % 11) * second).tolist()
        )
    if style == "clustered":
        return Decoder(
            dim + 1,
            lambda b: [
                10 * x + _signed(y % 61) / 10 for x, y in zip(_of(pool, b[0]), b[1:], strict=True)
            ],
            len(pool),
        )
    return Decoder(1, lambda b: list(_of(pool, b[0])), len(pool))


def prob_decoder(style: str, num_classes: int) -> Decoder:
    """A decoder for probabilities that sum to 1, up to rounding."""
    if style == "one_hot":
        return Decoder(1, lambda b: [float(b[0] % num_classes == c) for c in range(num_classes)])
    if style == "uniform":
        return Decoder(0, lambda b: [1 / num_classes] * num_classes)
    if style == "saturated":
        return Decoder(
            num_classes,
            lambda b: (
                torch.tensor([30.0 * _signed(x % 7) for x in b], device="cpu").softmax(-1).tolist()
            ),
        )
    if style == "near_ties":
        # One or two last places of a float32 apart: equal to whoever rounds.
        return Decoder(
            num_classes, lambda b: [(1 + _signed(x % 5) * 2.0**-24) / num_classes for x in b]
        )
    if style == "imbalanced":
        return Decoder(num_classes + 1, _drawn_to_the_first)
    largest = 4 if style == "ties" else 100
    return Decoder(num_classes, lambda b: _shares([x % largest for x in b]))


def label_decoder(num_classes: int, *, unlabelled: bool, pool: int = 0, heavy: int = 1) -> Decoder:
    """A decoder for one label, lowest first. Class 0 is `heavy` times as likely as another.

    With a pool it reads the byte that chose the row first: three in four labels follow the row.
    """
    classes = list(range(num_classes))
    classes = classes[:1] * heavy + classes[1:]

    def free(byte: int) -> int:
        # The same bytes mean -1 for any number of classes, so that cases lose classes one by one.
        if not classes or (unlabelled and byte % 4 == 3):
            return -1
        label: int = _of(classes, byte // 4)
        return label

    def followed(b: bytes) -> list[float]:
        return [float(free(b[1] // 4) if b[1] % 4 == 3 else b[0] % pool % num_classes)]

    if pool and num_classes:
        return Decoder(2, followed)
    return Decoder(1, lambda b: [float(free(b[0]))])


def _of(choices: tuple[float, ...] | list[int] | list[list[float]], byte: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return choices[byte % len(choices)]


def _signed(x: int) -> int:
    """0, 1, 2, 3, 4 ... as 0, 1, -1, 2, -2 ..."""
    return (x + 1) // 2 * (1 if x % 2 else -1)


def _decimals(row: bytes) -> list[float]:
    return [_signed(x % 199) / 10 for x in row]


def _drawn_to_the_first(row: bytes) -> list[float]:
    """Seven rows in eight are of class 0, so that others run short or empty."""
    first, *others = [x % 100 for x in row[1:]]
    return _shares([first + 100 * (row[0] % 8 > 0), *others])


def _shares(weights: list[int]) -> list[float]:
    total = sum(weights)
    return [w / total if total else 1 / len(weights) for w in weights]
