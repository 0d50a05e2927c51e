"""Similarities without rounding: neither the pieces rows are split in nor those of pairs show."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pseudolabel import _numerics, nearest_neighbors
from pseudolabel._numerics import similarity_matrix, split_rows
from pseudolabel.neighbors._pairs import exactly
from pseudolabel.neighbors._source import Source

METRICS = pytest.mark.parametrize("metric", ["cosine", "euclidean"])


def rows_of(seed, count, dimension):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
    x[::3] = x[0].clone()  # duplicates,
    x[1::4] *= 1e-9  # lengths far apart
    x[-1] = 0
    return x


@METRICS
@given(
    seed=st.integers(0, 2**31), n=st.integers(1, 7), m=st.integers(1, 9), rows=st.integers(1, 10)
)
def test_listed_pairs_are_those_of_the_matrix(metric, seed, n, m, rows):
    a, b = rows_of(seed, n, 5), rows_of(seed, m, 5)
    listed = torch.rand(n, m, generator=torch.Generator().manual_seed(seed)) < 0.6
    i, j = listed.nonzero(as_tuple=True)
    expected = similarity_matrix(split_rows(a, metric), split_rows(b, metric))[listed]
    assert torch.equal(exactly(a, b, i, j, metric, rows=rows), expected)


@METRICS
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_come_from_a_source_too_and_no_pair_is_no_error(metric, dtype):
    a, b = rows_of(1, 4, 6).to(dtype), rows_of(2, 5, 6).to(dtype)
    i, j = torch.tensor([0, 0, 2, 3]), torch.tensor([1, 4, 0, 0])
    expected = similarity_matrix(split_rows(a, metric), split_rows(b, metric))[i, j]
    assert torch.equal(exactly(a, Source("b", b.numpy()), i, j, metric, rows=2), expected)
    assert exactly(a, b, i[:0], j[:0], metric, rows=2).shape == (0,)


def test_the_default_device_is_not_asked():
    features = rows_of(3, 9, 4)
    expected = nearest_neighbors(features, 3)
    with torch.device("meta"):
        found = nearest_neighbors(features, 3)
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.similarity, expected.similarity)


@METRICS
@pytest.mark.parametrize("at_a_time", [1, 14, 35])
def test_the_pieces_that_rows_are_split_in_do_not_show(metric, at_a_time, monkeypatch):
    x = rows_of(0, 12, 7)
    whole = split_rows(x, metric)
    monkeypatch.setattr(_numerics, "_SPLIT_ELEMENTS", at_a_time)
    pieces = split_rows(x, metric)
    assert torch.equal(pieces.scale, whole.scale)
    for name in ("parts", "squared_norm"):
        for one, other in zip(getattr(pieces, name), getattr(whole, name), strict=True):
            assert torch.equal(one, other)
            assert one.dtype == other.dtype


def test_the_cosine_is_that_of_exact_arithmetic():
    a, b = np.random.default_rng(0).standard_normal((2, 6, 40)).astype(np.float32)
    i = j = torch.arange(6)
    found = exactly(torch.from_numpy(a), torch.from_numpy(b), i, j, "cosine", rows=4)
    for row, other, similarity in zip(a, b, found.tolist(), strict=True):
        x, y = ([Fraction(float(value)) for value in values] for values in (row, other))
        dot = sum(p * q for p, q in zip(x, y, strict=True))
        norms = sum(p * p for p in x) * sum(q * q for q in y)
        squared = float(dot * dot / norms)  # rounded once
        assert similarity == pytest.approx(np.sign(float(dot)) * np.sqrt(squared), rel=4e-16)
