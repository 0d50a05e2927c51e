"""The k nearest neighbours: exact, ties to the lowest index, self left out by its index."""

import numpy as np
import oracles
import pytest
import torch
from comparisons import assert_identical
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, METRICS, feature_sets, gaussian, metrics, rotation, seeds

from pseudolabel import Neighbors, nearest_neighbors
from pseudolabel.neighbors import _scoring, _source

both_metrics = pytest.mark.parametrize("metric", METRICS)
SELF = pytest.mark.parametrize("include_self", [False, True])


def assert_neighbors(actual, expected, *, atol=1e-12):
    indices, values = expected
    assert isinstance(actual, Neighbors)
    assert actual.indices.dtype == torch.int64
    assert actual.indices.tolist() == indices
    torch.testing.assert_close(
        actual.similarity.double(), torch.tensor(values, dtype=torch.float64), rtol=0, atol=atol
    )


def blocks_of_equals(size, dim, *, kinds=5, dtype=torch.float32):
    """Interleaved copies of a few rows."""
    return gaussian(dim, kinds, dim, dtype=dtype)[torch.arange(size) * 7 % kinds]


# Against the oracle ------------------------------------------------------------------------------


@both_metrics
@SELF
@given(features=feature_sets(), data=st.data())
def test_equals_the_oracle(include_self, metric, features, data):
    k = data.draw(st.integers(1, len(features) - 1 + include_self))
    options = {"metric": metric, "include_self": include_self}
    actual = nearest_neighbors(features, k, **options)
    assert_neighbors(actual, oracles.nearest_neighbors(features, k, **options))


@both_metrics
@given(features=feature_sets(), data=st.data())
def test_queries_equal_the_oracle_and_leave_nobody_out(metric, features, data):
    seed, rows = data.draw(seeds), data.draw(st.integers(1, 6))
    queries = torch.cat([features[:2], gaussian(seed, rows, features.shape[1])])
    k = data.draw(st.integers(1, len(features)))
    actual = nearest_neighbors(features, k, queries=queries, metric=metric)
    assert_neighbors(actual, oracles.nearest_neighbors(features, k, queries=queries, metric=metric))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@SELF
@both_metrics
def test_every_dtype_and_tie(metric, include_self, dtype, ties):
    size, k = 90, 40
    features = blocks_of_equals(size, 17, dtype=dtype) if ties else gaussian(0, size, 17).to(dtype)
    options = {"metric": metric, "include_self": include_self}
    actual = nearest_neighbors(features, k, **options)
    assert actual.similarity.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_neighbors(actual, oracles.nearest_neighbors(features.double(), k, **options), atol=2e-6)


@both_metrics
@pytest.mark.parametrize("k", range(1, 8))
def test_every_k(metric, k):
    features = gaussian(0, 8, 3, dtype=torch.float32)
    actual = nearest_neighbors(features, k, metric=metric)
    assert_neighbors(actual, oracles.nearest_neighbors(features, k, metric=metric), atol=2e-6)
    longest = nearest_neighbors(features, 7, metric=metric)
    assert_identical(actual, Neighbors(*(field[:, :k] for field in longest)))


def test_a_sample_with_all_others():
    features = gaussian(0, 30, 4)
    everyone = nearest_neighbors(features, 29).indices.sort(-1).values
    for sample, others in enumerate(everyone.tolist()):
        assert others == [i for i in range(30) if i != sample]
    with_self = nearest_neighbors(features, 30, include_self=True).indices.sort(-1).values
    assert torch.equal(with_self, torch.arange(30).expand(30, 30))


def test_two_samples():
    for metric in METRICS:
        found = nearest_neighbors(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 1, metric=metric)
        assert found.indices.tolist() == [[1], [0]]
    alone = nearest_neighbors(torch.tensor([[3.0]]), 1, include_self=True)
    assert alone.indices.tolist() == [[0]]
    assert alone.similarity.tolist() == [[1.0]]


# Ties --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 257, 400])
@pytest.mark.parametrize("dim", [1, 3, 17, 33, 100])
@both_metrics
def test_equal_rows_tie_exactly_and_the_lowest_index_wins(metric, dim, size):
    features = blocks_of_equals(size, dim)
    if dim == 1:  # in one dimension all positive rows have one direction
        features = torch.tensor([-1.0, 0.0, 1.0, 2.0, -4.0])[torch.arange(size) * 7 % 5].view(-1, 1)
    for k in (7, size // 5 + 10):
        actual = nearest_neighbors(features, k, metric=metric)
        assert_neighbors(actual, oracles.nearest_neighbors(features, k, metric=metric), atol=2e-6)


@both_metrics
def test_candidates_are_as_many_as_rows_that_are_read_in_blocks(metric, monkeypatch):
    features = blocks_of_equals(257, 17, kinds=2)
    expected = oracles.nearest_neighbors(features, 60, metric=metric)
    monkeypatch.setattr(_source, "_BLOCK_ELEMENTS", 17 * 50)
    monkeypatch.setattr(_scoring, "_MANY_DOUBTS", 8)
    assert_neighbors(nearest_neighbors(features, 60, metric=metric), expected, atol=2e-6)


@pytest.mark.parametrize("dim", [1, 33])
@SELF
@both_metrics
def test_all_rows_identical(metric, include_self, dim):
    size, k = 300, 9
    features = gaussian(3, 1, dim, dtype=torch.float32).expand(size, dim)
    actual = nearest_neighbors(features, k, metric=metric, include_self=include_self)
    for sample, found in enumerate(actual.indices.tolist()):
        first = [i for i in range(k + 1) if i != sample][: k - include_self]
        assert found == sorted([*first, sample] if include_self else first)
    assert actual.similarity.eq(1.0 if metric == "cosine" else 0.0).all()


def test_a_sample_keeps_its_place_among_many_lower_duplicates():
    features = torch.ones(50, 3)
    found = nearest_neighbors(features, 4, include_self=True)
    assert found.indices[49].tolist() == [0, 1, 2, 49]
    assert found.indices[1].tolist() == [0, 1, 2, 3]
    only = nearest_neighbors(features, 1, include_self=True)
    assert only.indices.flatten().tolist() == list(range(50))


def test_a_duplicate_is_a_neighbour_whatever_its_place():
    """Leaving out "the first column" would drop the copy and keep the sample itself."""
    features = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    assert nearest_neighbors(features, 1).indices.flatten().tolist() == [2, 3, 0, 1]


@SELF
def test_zero_rows_are_alike_to_nothing_not_even_themselves(include_self):
    features = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]])
    actual = nearest_neighbors(features, 3, include_self=include_self)
    if include_self:
        assert actual.indices.tolist() == [[0, 1, 2], [1, 0, 2], [0, 1, 2], [3, 0, 2]]
    else:
        assert actual.indices.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 2, 1]]
    assert actual.similarity[0].eq(0).all()
    assert actual.similarity[2].eq(0).all()


def test_an_opposite_sample_keeps_its_own_place_with_self_included():
    """A zero row has similarity 0 to itself and may rank below others; it is still listed."""
    features = torch.zeros(40, 2)
    found = nearest_neighbors(features, 3, include_self=True)
    assert found.indices[39].tolist() == [0, 1, 39]


def test_minus_zero_is_zero():
    features = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0]])
    for metric in METRICS:
        found = nearest_neighbors(features, 2, metric=metric)
        assert found.indices.tolist() == [[1, 2], [0, 2], [0, 1]]


# Near ties ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [20, 300])
def test_cosines_closer_than_float32_are_told_apart(size):
    """Angles 1e-4 (1 + i / 1000): cosines differ by 1e-11, a float32 cosine is 1 for all."""
    order = torch.randperm(size)
    angle = 1e-4 * (1 + torch.arange(size) / 1000)
    features = torch.stack([torch.ones(size), angle], dim=-1)[order]
    query = torch.tensor([[1.0, 0.0]])
    found = nearest_neighbors(features, min(size, 40), queries=query)
    assert torch.equal(found.indices[0], order.argsort()[: min(size, 40)])
    assert found.similarity.eq(1).all()


@pytest.mark.parametrize("size", [20, 300])
def test_distances_far_from_the_origin_are_told_apart(size):
    order = torch.randperm(size)
    features = torch.stack([torch.full((size,), 4096.0), torch.arange(size) * 2.0**-9], dim=-1)
    query = torch.tensor([[4096.0, -1.0]])
    found = nearest_neighbors(features[order], 15, queries=query, metric="euclidean")
    assert torch.equal(found.indices[0], order.argsort()[:15])


def test_distances_closer_than_float32_are_told_apart():
    """Distances sqrt(1 + t^2) with t near 1e-4: all 1 in float32."""
    order = torch.randperm(200)
    offset = 1e-4 * (1 + torch.arange(200) / 1000)
    features = torch.stack([torch.ones(200), offset], dim=-1)[order]
    found = nearest_neighbors(features, 30, queries=torch.zeros(1, 2), metric="euclidean")
    assert torch.equal(found.indices[0], order.argsort()[:30])


def test_float64_features_are_compared_to_their_last_digits():
    order = torch.randperm(100)
    features = (1 + torch.arange(100, dtype=torch.float64) * 2.0**-50)[order].view(-1, 1)
    found = nearest_neighbors(features, 100, queries=features[:1] * 0, metric="euclidean")
    assert torch.equal(found.indices[0], order.argsort())


def test_near_ties_hide_nobody_behind_the_candidates():
    """A dense swarm of rows that float32 cannot rank, and k well inside it."""
    features = 1 + 1e-4 * gaussian(0, 400, 3, dtype=torch.float32)
    for metric in METRICS:
        found = nearest_neighbors(features, 20, metric=metric)
        assert found.indices.tolist() == oracles.nearest_neighbors(features, 20, metric=metric)[0]


@pytest.mark.parametrize("copies", [1, 60])
def test_small_components_beside_large_ones_are_not_lost(copies):
    """Cosines 1e-15 and 2e-15, distances 1e-9 and 2e-9: plain in float64, and in float32."""
    rows = torch.tensor([[1.0, 1e-15], [1.0, 2e-15], [1.0, 0.0]]).repeat(copies, 1)
    found = nearest_neighbors(rows, 1, queries=torch.tensor([[0.0, 1.0]]))
    assert found.indices.item() == 1
    assert found.similarity.item() == pytest.approx(2e-15)
    rows = torch.tensor([[1e6, 1e-9], [1e6, -2e-9], [1e6, 5e-10]]).repeat(copies, 1)
    query = torch.tensor([[1e6, 0.0]])
    found = nearest_neighbors(rows, 1, queries=query, metric="euclidean")
    assert found.indices.item() == 2
    assert found.similarity.item() == pytest.approx(-5e-10)


def test_sums_of_the_same_numbers_tie_in_whatever_order():
    """Rows are permutations of one row: float64 sums of them differ in their last bits."""
    row = gaussian(0, 33, dtype=torch.float32)
    features = torch.stack([row[torch.randperm(33)] for _ in range(60)])
    for metric in METRICS:
        found = nearest_neighbors(features, 60, queries=torch.ones(1, 33), metric=metric)
        assert found.indices[0].tolist() == list(range(60))


# Relations ---------------------------------------------------------------------------------------


@SELF
@given(metric=metrics, features=feature_sets(), data=st.data())
def test_similarities_fall_and_indices_rise_within_a_tie(include_self, metric, features, data):
    size = len(features)
    k = data.draw(st.integers(1, size - 1 + include_self))
    indices, similarity = nearest_neighbors(features, k, metric=metric, include_self=include_self)
    for sample, (row, values) in enumerate(zip(indices.tolist(), similarity.tolist(), strict=True)):
        assert len(set(row)) == k
        assert (sample in row) is include_self
        keys = [(-v, i) for v, i in zip(values, row, strict=True)]
        assert keys == sorted(keys)


@given(metric=metrics, features=feature_sets(ties=False), seed=seeds)
def test_permuting_samples_renames_them(metric, features, seed):
    k, order = (len(features) + 1) // 2, torch.randperm(len(features))
    expected = nearest_neighbors(features, k, metric=metric)
    actual = nearest_neighbors(features[order], k, metric=metric)
    assert torch.equal(order[actual.indices], expected.indices[order])
    assert torch.equal(actual.similarity, expected.similarity[order])


@given(features=feature_sets(), exponents=st.lists(st.integers(-60, 60), min_size=24, max_size=24))
def test_powers_of_two_change_nothing_under_cosine(features, exponents):
    features = features.float()
    scales = torch.tensor(exponents[: len(features)]).float().exp2().unsqueeze(-1)
    k = (len(features) + 1) // 2
    assert_identical(nearest_neighbors(features * scales, k), nearest_neighbors(features, k))


@given(metric=metrics, features=feature_sets(ties=False), seed=seeds)
def test_rotations_change_nothing(metric, features, seed):
    k = (len(features) + 1) // 2
    expected = nearest_neighbors(features, k, metric=metric)
    turned = nearest_neighbors(features @ rotation(seed, features.shape[1]), k, metric=metric)
    assert torch.equal(turned.indices, expected.indices)
    torch.testing.assert_close(turned.similarity, expected.similarity, rtol=0, atol=1e-12)


@given(features=feature_sets(ties=False), seed=seeds)
def test_translations_change_nothing_under_euclidean(features, seed):
    k, shift = (len(features) + 1) // 2, gaussian(seed, features.shape[1])
    expected = nearest_neighbors(features, k, metric="euclidean")
    moved = nearest_neighbors(features + shift, k, metric="euclidean")
    assert torch.equal(moved.indices, expected.indices)
    torch.testing.assert_close(moved.similarity, expected.similarity, rtol=0, atol=1e-12)


@given(metric=metrics, features=feature_sets())
def test_a_sample_asked_as_a_query_meets_itself_first_or_a_lower_copy(metric, features):
    found = nearest_neighbors(features, 1, queries=features, metric=metric).indices[:, 0]
    for sample, nearest in enumerate(found.tolist()):
        copies = (features == features[sample]).all(-1).nonzero()[0, 0].item()
        zero_row = not features[sample].any() and metric == "cosine"
        assert nearest == (0 if zero_row else copies)


# Sizes, kinds and places -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
@both_metrics
def test_huge_and_tiny_rows_neither_overflow_nor_vanish(metric, sign, dtype):
    scale = 2.0 ** (sign * {torch.float32: 100, torch.float64: 900}[dtype])
    features = gaussian(0, 40, 5, dtype=dtype)
    expected = nearest_neighbors(features, 6, metric=metric)
    actual = nearest_neighbors(features * scale, 6, metric=metric)
    assert torch.equal(actual.indices, expected.indices)
    back = 1.0 if metric == "cosine" else scale
    torch.testing.assert_close(actual.similarity / back, expected.similarity, rtol=1e-6, atol=0)


def test_huge_and_tiny_rows_together():
    features = gaussian(0, 40, 5, dtype=torch.float32)
    mixed = features * torch.tensor([2.0**100, 2.0**-100]).repeat(20).unsqueeze(-1)
    assert_identical(nearest_neighbors(mixed, 6), nearest_neighbors(features, 6))


def test_one_far_outlier_does_not_blur_the_others():
    features = torch.cat([gaussian(0, 50, 4, dtype=torch.float32), torch.full((1, 4), 1e20)])
    found = nearest_neighbors(features, 5, metric="euclidean").indices
    assert found.tolist() == oracles.nearest_neighbors(features, 5, metric="euclidean")[0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numpy_arrays_are_features_too(dtype):
    features = gaussian(0, 20, 4).numpy().astype(dtype)
    actual = nearest_neighbors(features, 5)
    assert_identical(actual, nearest_neighbors(torch.from_numpy(features), 5))
    queries = features[3:7]
    assert_identical(
        nearest_neighbors(features, 5, queries=queries),
        nearest_neighbors(torch.from_numpy(features), 5, queries=torch.from_numpy(queries)),
    )


def test_a_memory_mapped_array_is_read_and_left_alone(tmp_path):
    rows = blocks_of_equals(150, 17).numpy()
    path = tmp_path / "rows.npy"
    np.save(path, rows)
    before = path.read_bytes()
    mapped = np.load(path, mmap_mode="r")
    actual = nearest_neighbors(mapped, 9)
    assert_identical(actual, nearest_neighbors(torch.from_numpy(rows), 9))
    assert path.read_bytes() == before


def test_layout_does_not_show():
    features = gaussian(0, 30, 7, dtype=torch.float32)
    expected = nearest_neighbors(features, 5)
    views = [features.t().contiguous().t(), features.repeat_interleave(2, 0)[::2]]
    arrays = [np.asfortranarray(features.numpy()), features.flip(0).numpy()[::-1]]
    for view in [*views, *arrays]:
        assert_identical(nearest_neighbors(view, 5), expected)
        assert_identical(
            nearest_neighbors(features, 5, queries=view),
            nearest_neighbors(features, 5, queries=features),
        )


def test_no_gradient_and_inputs_unchanged():
    features = gaussian(0, 12, 3).requires_grad_()
    before = features.detach().clone()
    for metric in METRICS:
        found = nearest_neighbors(features, 4, metric=metric)
        assert not found.similarity.requires_grad
        queried = nearest_neighbors(features, 4, queries=features * 2, metric=metric)
        assert not queried.similarity.requires_grad
    assert torch.equal(features, before)
    array = before.numpy().copy()
    nearest_neighbors(array, 4, metric="euclidean")
    assert np.array_equal(array, before.numpy())


def test_half_rows_are_compared_as_their_float32_values():
    for dtype in (torch.bfloat16, torch.float16):
        features = gaussian(0, 60, 9).to(dtype)
        assert_identical(nearest_neighbors(features, 8), nearest_neighbors(features.float(), 8))


@both_metrics
def test_results_stay_on_the_device(metric, device):
    features = blocks_of_equals(90, 17)
    actual = nearest_neighbors(features.to(device), 7, metric=metric)
    assert actual.indices.device.type == device.type
    expected = nearest_neighbors(features, 7, metric=metric)
    assert torch.equal(actual.indices.cpu(), expected.indices)
