"""benchmarks/imbalance.py draws what it says."""

import numpy as np
import pytest
from benchmark_modules import load_benchmark


@pytest.fixture
def benchmark():
    return load_benchmark("imbalance")


def test_a_tail_falls_geometrically_and_repeats_no_row(benchmark):
    truth = np.arange(5000) % 10
    rows, sizes = benchmark.tail(truth, 100, 400, np.random.default_rng(0))
    assert (sizes[0], sizes[-1]) == (400, 4)
    assert np.allclose(sizes[1:] / sizes[:-1], 100 ** (-1 / 9), atol=0.05)
    assert len(set(rows)) == len(rows) == sizes.sum()
    assert sorted(np.bincount(truth[rows]), reverse=True) == sizes.tolist()
    assert np.bincount(truth[rows]).tolist() != sizes.tolist()


def test_priors_are_what_they_say(benchmark):
    truth = np.repeat(np.arange(10), [50, 5, 20, 9, 7, 6, 4, 3, 2, 1])
    sizes = np.sort(np.bincount(truth))[::-1]
    made = benchmark.priors(sizes, truth, truth, np.random.default_rng(0))
    assert made["uniform"] is None
    assert made["true sizes"].tolist() == sizes.tolist()
    counted = made["counts in 100 labelled rows, and 1"]
    assert counted.sum() == 100 + 10
    assert counted.min() > 0
    assert made["sizes of the k-means clusters"].tolist() == np.bincount(truth).tolist()
