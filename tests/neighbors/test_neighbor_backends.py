"""One conformance suite for every backend: the answer is the torch backend's, bit by bit."""

import importlib.util

import numpy as np
import pytest
import torch
from comparisons import assert_identical
from hypothesis import given
from hypothesis import strategies as st
from strategies import METRICS, feature_sets, gaussian

from pseudolabel import nearest_neighbors
from pseudolabel.neighbors import _sweep

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="needs faiss-cpu or faiss-gpu"
)


class BruteForce:
    """The two-method protocol at its plainest: float32, ties broken in no particular order."""

    def __init__(self, metric):
        self.metric = metric
        self.rows = None
        self.added = 0
        self.asked = []

    def add(self, rows):
        assert isinstance(rows, np.ndarray)
        assert rows.dtype == np.float32
        self.rows = rows.copy()
        self.added += 1

    def search(self, queries, k):
        assert isinstance(queries, np.ndarray)
        assert queries.dtype == np.float32
        self.asked.append((len(queries), k))
        if self.metric == "cosine":
            scores = queries @ self.rows.T
        else:
            scores = -((queries[:, None] - self.rows[None]) ** 2).sum(-1)
        found = np.argsort(-scores[:, ::-1], axis=1)[:, :k]  # ties: the highest index first
        found = len(self.rows) - 1 - found
        padding = ((0, 0), (0, k - found.shape[1]))
        return (
            np.pad(np.take_along_axis(scores, found, 1), padding, constant_values=-np.inf),
            np.pad(found, padding, constant_values=-1),
        )


BACKENDS = [
    "torch",
    pytest.param("faiss", marks=needs_faiss),
    pytest.param(BruteForce, id="object"),
]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
both_metrics = pytest.mark.parametrize("metric", METRICS)


def make(backend, metric):
    return backend(metric) if isinstance(backend, type) else backend


@both_metrics
@every_backend
@given(features=feature_sets(max_size=16), include_self=st.booleans(), data=st.data())
def test_every_backend_agrees(backend, metric, features, include_self, data):
    features = features.float()
    k = data.draw(st.integers(1, len(features) - 1 + include_self))
    options = {"metric": metric, "include_self": include_self}
    actual = nearest_neighbors(features, k, backend=make(backend, metric), **options)
    assert_identical(actual, nearest_neighbors(features, k, **options))


@both_metrics
@every_backend
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_ties_in_a_larger_set(backend, metric, dtype):
    features = gaussian(0, 250, 33, dtype=dtype)
    for k in (1, 40, 249):
        actual = nearest_neighbors(features, k, metric=metric, backend=make(backend, metric))
        assert_identical(actual, nearest_neighbors(features, k, metric=metric))


@both_metrics
@pytest.mark.parametrize("backend", ["torch", pytest.param("faiss", marks=needs_faiss)])
@pytest.mark.parametrize("dim", [1, 3, 33, 100])
def test_exact_backends_agree_on_blocks_of_ties(backend, dim, metric):
    """More copies of a row than any margin beyond k: still the lowest indices."""
    features = gaussian(0, 3, dim, dtype=torch.float32)[torch.arange(300) * 7 % 3]
    if dim == 1:
        features = features.sign()
    actual = nearest_neighbors(features, 5, metric=metric, backend=backend)
    kinds = torch.arange(300) * 7 % 3
    for sample in range(300):
        alike = (features == features[sample]).all(-1).nonzero().flatten().tolist()
        expected = [i for i in alike if i != sample][:5]
        assert actual.indices[sample].tolist() == expected, kinds[sample]


@needs_faiss
def test_exact_backends_agree_on_near_ties():
    features = 1 + 1e-6 * gaussian(0, 300, 3, dtype=torch.float32)
    for metric in METRICS:
        expected = nearest_neighbors(features, 20, metric=metric)
        assert_identical(nearest_neighbors(features, 20, metric=metric, backend="faiss"), expected)


@needs_faiss
@pytest.mark.parametrize("own", [True, False])
def test_an_index_that_names_everybody_settles_every_query(monkeypatch, own):
    """Equal rows leave no gap below the k-th; nobody was left out, so nothing is searched again."""
    features = gaussian(0, 3, 5, dtype=torch.float32)[torch.arange(30) % 3]
    queries = None if own else features[:7].clone()
    expected = nearest_neighbors(features, 20, queries=queries)
    monkeypatch.setattr(_sweep.Sweep, "by_rows", None)
    found = nearest_neighbors(features, 20, queries=queries, backend="faiss")
    assert_identical(found, expected)


@both_metrics
@every_backend
def test_queries_arrays_and_blocks(backend, metric):
    features, queries = gaussian(0, 120, 9).numpy(), gaussian(1, 13, 9).numpy()
    expected = nearest_neighbors(features, 120, queries=queries, metric=metric)
    actual = nearest_neighbors(
        features, 120, queries=queries, metric=metric, backend=make(backend, metric)
    )
    assert_identical(actual, expected)


def test_auto_is_torch():
    features = gaussian(0, 50, 5)
    assert_identical(
        nearest_neighbors(features, 4), nearest_neighbors(features, 4, backend="torch")
    )


def test_the_object_is_fed_once_and_asked_for_more_than_k():
    index = BruteForce("cosine")
    features = gaussian(0, 60, 5)
    nearest_neighbors(features, 7, backend=index)
    assert index.added == 1
    assert index.rows.shape == (60, 5)
    np.testing.assert_allclose(np.linalg.norm(index.rows, axis=1), 1, rtol=1e-6)
    assert sum(rows for rows, _ in index.asked) == 60
    assert all(k > 7 for _, k in index.asked)


class OrderAlone(BruteForce):
    """Says nothing of its scores."""

    def search(self, queries, k):
        scores, found = super().search(queries, k)
        return np.zeros_like(scores), found


@both_metrics
def test_the_scores_of_an_object_are_not_used_and_nothing_is_searched_again(metric, monkeypatch):
    features = gaussian(0, 60, 5)
    expected = nearest_neighbors(features, 7, metric=metric)
    monkeypatch.setattr(_sweep.Sweep, "by_rows", None)
    found = nearest_neighbors(features, 7, metric=metric, backend=OrderAlone(metric))
    assert_identical(found, expected)


@needs_faiss
@pytest.mark.parametrize("held", [7, 25])
def test_an_index_of_other_rows_is_refused(held):
    import faiss

    index = faiss.IndexFlatIP(4)
    index.add(gaussian(1, held, 4, dtype=torch.float32).numpy())
    with pytest.raises(ValueError, match=rf"^backend: expected .* 20 vectors, got {held}"):
        nearest_neighbors(gaussian(0, 20, 4), 1, backend=index)


@needs_faiss
def test_a_full_index_is_not_filled_again():
    import faiss

    features = gaussian(0, 80, 6, dtype=torch.float32)
    index = faiss.IndexFlatIP(6)
    expected = nearest_neighbors(features, 9)
    assert_identical(nearest_neighbors(features, 9, backend=index), expected)
    assert index.ntotal == 80
    assert_identical(nearest_neighbors(features, 9, backend=index), expected)
    assert index.ntotal == 80


class Sparing(BruteForce):
    """Answers with fewer than asked, -1 in the rest."""

    def search(self, queries, k):
        scores, found = super().search(queries, k)
        found[:, 4:] = -1
        return scores, found


def test_a_sparing_index_still_leaves_out_the_sample_itself():
    features = gaussian(0, 60, 5, dtype=torch.float32)
    actual = nearest_neighbors(features, 3, backend=Sparing("cosine"))
    assert_identical(actual, nearest_neighbors(features, 3))


def test_queries_to_which_an_index_names_too_few_are_searched_among_all():
    features = gaussian(0, 60, 5, dtype=torch.float32)
    for k in (4, 9):
        actual = nearest_neighbors(features, k, backend=Sparing("cosine"))
        assert_identical(actual, nearest_neighbors(features, k))


def test_a_repeating_index_does_not_name_a_neighbour_twice():
    class Repeating(BruteForce):
        def search(self, queries, k):
            scores, found = super().search(queries, k // 2)
            return np.tile(scores, 2), np.tile(found, 2)

    features = gaussian(0, 60, 5, dtype=torch.float32)
    actual = nearest_neighbors(features, 6, backend=Repeating("cosine"))
    assert_identical(actual, nearest_neighbors(features, 6))


def searched_by(answer):
    """An object that gives ``answer(found)`` instead of what it finds."""

    class Wrong(BruteForce):
        def search(self, queries, k):
            scores, found = super().search(queries, k)
            return scores, answer(found)

    return Wrong("cosine")


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64])
def test_the_indices_of_an_object_may_be_of_any_integers(dtype):
    features = gaussian(0, 60, 5, dtype=torch.float32)
    actual = nearest_neighbors(features, 6, backend=searched_by(lambda found: found.astype(dtype)))
    assert_identical(actual, nearest_neighbors(features, 6))
    assert actual.indices.dtype == torch.int64


def holding(count):
    index = BruteForce("cosine")
    index.ntotal = count
    return index


def untrained():
    index = BruteForce("cosine")
    index.is_trained = False
    return index


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (searched_by(lambda found: found[:, 0]), r"indices of shape \(60, k\) from search, got"),
        (searched_by(lambda found: found[1:]), r"indices of shape \(60, k\) from search, got"),
        (searched_by(lambda found: found + 1), "indices below 60 from search, got 60"),
        (holding(59), "an empty index or one of 60 vectors, got 59"),
        (untrained(), "a trained index, got"),
    ],
    ids=["no columns", "too few rows", "too high", "other vectors", "untrained"],
)
def test_an_object_that_does_not_keep_the_protocol_is_named(index, said):
    with pytest.raises(ValueError, match=f"^backend: expected {said}"):
        nearest_neighbors(gaussian(0, 60, 5), 3, backend=index)


@pytest.mark.parametrize(
    ("backend", "error", "said"),
    [
        (3, TypeError, "a name or an object with add and search, got 3"),
        ("annoy", ValueError, "'auto', 'torch', 'faiss' or an object with add and search, got 'a"),
    ],
)
def test_what_is_no_backend_is_named(backend, error, said):
    with pytest.raises(error, match=f"^backend: expected {said}"):
        nearest_neighbors(gaussian(0, 60, 5), 3, backend=backend)
