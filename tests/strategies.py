"""Hypothesis strategies: structure is drawn, data are derived.

Rows come from a small pool of random directions, so whole blocks of samples are equal (exact ties)
while different rows are clearly different; the pool is as large as the sample where no tie is
wanted.
"""

from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

ASSIGNMENTS = ("overlap", "greedy", "optimal", "sequential", "nearest")
EXCLUSIVE = ("greedy", "optimal", "sequential")
METRICS = ("cosine", "euclidean")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
HEADS = ((), (3,), (2, 2))

drawn_as_shown = pytest.mark.skipif(
    hypothesis.__version_info__ < (6, 170), reason="older hypothesis finds other cases than shown"
)
seeds = st.integers(0, 2**32 - 1)
metrics = st.sampled_from(METRICS)
rules = st.sampled_from(ASSIGNMENTS)


def pooled_rows(seed, names, dim, *, zero_row=False):
    """One float64 row for every name (a small integer): equal names give equal rows."""
    pool = np.random.default_rng(seed).standard_normal((max(names, default=0) + 1, dim))
    if zero_row:
        pool[0] = 0
    return torch.from_numpy(pool[list(names)])


def gaussian(seed, *shape, dtype=torch.float64):
    """Rows without ties."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def rotation(seed, dim):
    """A random orthogonal matrix."""
    return torch.linalg.qr(gaussian(seed, dim, dim)).Q


def names(size, *, ties=True):
    """`size` small integers that say which samples are equal."""
    if not ties:
        return st.just(tuple(range(size)))
    return st.lists(st.integers(0, size - 1), min_size=size, max_size=size).map(tuple)


@st.composite
def probabilities(draw, num_samples, num_clusters, *, heads=(), ties=True):
    """(*heads, M, K) float64 in [0, 1]: eighths (many ties, zeros and ones), or softmax rows."""
    shape = (*heads, num_samples, num_clusters)
    rng = np.random.default_rng(draw(seeds))
    if not ties:
        return torch.from_numpy(rng.random(shape))
    if draw(st.booleans()):
        return torch.from_numpy(rng.integers(0, 9, shape) / 8)
    sharpness = draw(st.sampled_from([0.5, 3.0, 100.0]))
    return torch.from_numpy(rng.standard_normal(shape) * sharpness).softmax(-1)


class Assignment(NamedTuple):
    """Features, prototypes and counts that every assignment rule can serve."""

    features: torch.Tensor  # (M, D)
    prototypes: torch.Tensor  # (*heads, K, D)
    counts: list[int]


@st.composite
def assignments(draw, *, heads=(), ties=True, max_clusters=4, zero_row=True):
    """Problems for `assign_labels`; with ties also equal prototypes and a zero row."""
    num_clusters = draw(st.integers(1, max_clusters))
    counts = draw(st.lists(st.integers(1, 4), min_size=num_clusters, max_size=num_clusters))
    num_samples = sum(counts) + draw(st.integers(0, 5))
    dim = draw(st.integers(2, 5))
    zero = ties and zero_row and draw(st.booleans())
    rows = draw(names(num_samples, ties=ties))
    features = pooled_rows(draw(seeds), rows, dim, zero_row=zero)
    prototypes = gaussian(draw(seeds), *heads, num_clusters, dim)
    if ties:
        prototypes = prototypes[..., list(draw(names(num_clusters))), :]
    return Assignment(features, prototypes, counts)


class Labelling(NamedTuple):
    """Features and probabilities for `prototype_labels`."""

    features: torch.Tensor  # (M, D)
    probs: torch.Tensor  # (*heads, M, K)


@st.composite
def labellings(draw, *, heads=(), ties=True):
    """Problems for `prototype_labels`: M >= K, D >= 2."""
    num_clusters = draw(st.integers(1, 4))
    num_samples = draw(st.integers(num_clusters, 16))
    dim = draw(st.integers(2, 5))
    features = pooled_rows(draw(seeds), draw(names(num_samples, ties=ties)), dim)
    return Labelling(
        features, draw(probabilities(num_samples, num_clusters, heads=heads, ties=ties))
    )


@st.composite
def feature_sets(draw, *, ties=True, min_size=2, max_size=24):
    """(N, D) float64 rows for a neighbour search; with ties also a zero row."""
    size = draw(st.integers(min_size, max_size))
    dim = draw(st.integers(2, 6))
    zero = ties and draw(st.booleans())
    return pooled_rows(draw(seeds), draw(names(size, ties=ties)), dim, zero_row=zero)


@st.composite
def graphs(draw, *, heads=()):
    """(labels (*heads, N), neighbour indices (N, k)) with -1 among the labels."""
    size, k = draw(st.integers(1, 20)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(seeds))
    labels = rng.integers(-1, draw(st.integers(1, 4)), (*heads, size))
    return torch.from_numpy(labels), torch.from_numpy(rng.integers(0, size, (size, k)))
