"""SPICE Eq. 4: the five ways to hand out labels.

Two kinds of oracle tests. End to end in float64, where random rows that differ differ clearly. And
in every dtype on the similarities that the operator itself reports: these are checked for accuracy
and exact ties once, and the literal rules applied to them must give the same entries.
"""

import math

import oracles
import pytest
import torch
from comparisons import assert_entries, assert_identical, head, positions
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import (
    ASSIGNMENTS,
    DTYPES,
    EXCLUSIVE,
    HEADS,
    METRICS,
    assignments,
    gaussian,
    metrics,
    rotation,
    rules,
    seeds,
)

from pseudolabel import assign_labels, prototype_labels

both_metrics = pytest.mark.parametrize("metric", METRICS)
every_rule = pytest.mark.parametrize("rule", ASSIGNMENTS)


def reported_table(features, prototypes, metric):
    """(*heads, K, M): the similarities that the operator reports when every cluster takes all."""
    everything = assign_labels(features, prototypes, len(features), metric=metric)
    table = prototypes.new_empty((*prototypes.shape[:-1], len(features)), dtype=torch.float64)
    indices = everything.indices.unflatten(-1, table.shape[-2:])
    values = everything.similarity.double().unflatten(-1, table.shape[-2:])
    return table.scatter_(-1, indices, values)


def expected_table(features, prototypes, metric):
    rows = features.double().tolist()
    return torch.tensor(
        [
            [oracles.similarity(metric, row, p) for row in rows]
            for p in prototypes.double().tolist()
        ],
        dtype=torch.float64,
    )


def total(pseudo):
    return pseudo.similarity.double().sum(-1)


# Against the oracles -----------------------------------------------------------------------------


@both_metrics
@pytest.mark.parametrize("rule", ["overlap", "greedy", "sequential", "nearest"])
@given(problem=assignments())
def test_equals_the_literal_rule_from_end_to_end(rule, metric, problem):
    features, prototypes, counts = problem
    table = expected_table(features, prototypes, metric)
    actual = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
    assert_entries(actual, oracles.assign(table, counts, rule), atol=1e-12)
    assert actual.metric == metric
    assert_identical(actual.prototypes, prototypes)


@both_metrics
@given(problem=assignments())
def test_optimal_reaches_the_largest_total(metric, problem):
    features, prototypes, counts = problem
    table = expected_table(features, prototypes, metric)
    expected = math.fsum(oracles.assign(table, counts, "optimal").similarity)
    actual = assign_labels(features, prototypes, counts, assignment="optimal", metric=metric)
    assert total(actual).item() == pytest.approx(expected, abs=1e-10)
    taken = actual.indices.tolist()
    assert actual.similarity.tolist() == pytest.approx(
        [table[c][i].item() for c, i in zip(actual.labels.tolist(), taken, strict=True)]
    )


@both_metrics
@given(problem=assignments(ties=False))
def test_optimal_equals_the_oracle_without_ties(metric, problem):
    features, prototypes, counts = problem
    expected = oracles.assign(expected_table(features, prototypes, metric), counts, "optimal")
    actual = assign_labels(features, prototypes, counts, assignment="optimal", metric=metric)
    assert_entries(actual, expected, atol=1e-12)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@both_metrics
@every_rule
def test_every_dtype_head_and_tie(rule, metric, dtype, heads, ties):
    features = gaussian(5, 37, 7, dtype=dtype)
    prototypes = gaussian(6, *heads, 4, 7, dtype=dtype)
    if ties:
        features = features[torch.arange(37) * 5 % 6]
        prototypes = prototypes[..., [0, 1, 1, 0], :]
    counts = [9, 3, 12, 6]
    together = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
    result_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    assert together.indices.dtype == together.labels.dtype == torch.int64
    assert together.similarity.dtype == together.prototypes.dtype == result_dtype
    table = reported_table(features, prototypes, metric)
    for position in positions(heads):
        one_head = prototypes[position]
        torch.testing.assert_close(
            table[position], expected_table(features, one_head, metric), rtol=2e-6, atol=2e-6
        )
        assert_identical(
            head(together, position),
            assign_labels(features, one_head, counts, assignment=rule, metric=metric),
        )
        expected = oracles.assign(table[position].tolist(), counts, rule)
        if rule == "optimal" and ties:
            reached = math.fsum(expected.similarity)
            assert total(together)[position].item() == pytest.approx(reached, abs=1e-6)
        else:
            assert_entries(head(together, position), expected)


# Ties --------------------------------------------------------------------------------------------


@both_metrics
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [1, 3, 17, 33, 100])
@pytest.mark.parametrize("num_samples", [65, 300])
def test_equal_rows_tie_exactly_and_the_lowest_index_wins(num_samples, dim, dtype, metric):
    kinds = torch.arange(num_samples) * 7 % 5
    features = gaussian(dim, 5, dim, dtype=dtype)[kinds]
    prototypes = gaussian(dim + 1, 3, dim, dtype=dtype)[[0, 1, 1, 2]]
    table = reported_table(features, prototypes, metric)
    for kind in range(5):
        values = table[:, kinds == kind]
        assert torch.equal(values, values[:, :1].expand_as(values))
    assert torch.equal(table[1], table[2])
    counts = [num_samples // 3, num_samples // 5, num_samples // 7, num_samples // 9]
    for rule in ("overlap", "greedy", "sequential", "nearest"):
        actual = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
        assert_entries(actual, oracles.assign(table.tolist(), counts, rule))


@both_metrics
@every_rule
@pytest.mark.parametrize("dim", [1, 33])
def test_all_rows_and_prototypes_identical(rule, metric, dim):
    features = gaussian(0, 1, dim, dtype=torch.float32).expand(40, dim)
    prototypes = gaussian(1, 1, dim, dtype=torch.float32).expand(4, dim)
    actual = assign_labels(features, prototypes, 10, assignment=rule, metric=metric)
    if rule == "overlap":
        assert actual.indices.tolist() == list(range(10)) * 4
    elif rule == "nearest":
        assert actual.indices.tolist() == [*range(10), *[-1] * 30]
        assert actual.labels.tolist() == [0] * 10 + [-1] * 30
        assert actual.similarity[10:].eq(-math.inf).all()
    elif rule == "optimal":
        assert sorted(actual.indices.tolist()) == list(range(40))
    else:
        assert actual.indices.tolist() == list(range(40))
    assert actual.similarity[actual.indices >= 0].unique().numel() == 1


# Invariants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", EXCLUSIVE)
@given(metric=metrics, problem=assignments())
def test_exclusive_rules_meet_every_quota_and_share_no_sample(rule, metric, problem):
    features, prototypes, counts = problem
    actual = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
    assert actual.labels.tolist() == [c for c, n in enumerate(counts) for _ in range(n)]
    taken = actual.indices.tolist()
    assert len(set(taken)) == len(taken) == sum(counts)
    assert all(0 <= i < len(features) for i in taken)


@given(metric=metrics, problem=assignments())
def test_nearest_keeps_a_subset_of_overlap_and_no_sample_twice(metric, problem):
    features, prototypes, counts = problem
    overlap = assign_labels(features, prototypes, counts, metric=metric)
    nearest = assign_labels(features, prototypes, counts, assignment="nearest", metric=metric)
    pairs = set(zip(nearest.indices.tolist(), nearest.labels.tolist(), strict=True)) - {(-1, -1)}
    assert pairs <= set(zip(overlap.indices.tolist(), overlap.labels.tolist(), strict=True))
    taken = [i for i, _ in pairs]
    assert sorted(taken) == sorted(set(overlap.indices.tolist()))


@given(metric=metrics, problem=assignments())
def test_optimal_is_never_below_greedy(metric, problem):
    optimal, greedy = (
        total(assign_labels(*problem, assignment=rule, metric=metric))
        for rule in ("optimal", "greedy")
    )
    assert optimal >= greedy - 1e-12


def test_optimal_can_be_above_greedy():
    # Greedy takes the pair (1, 0) first and leaves sample 1, far from both, to cluster 0.
    features = torch.tensor([[0.0], [3.0]], dtype=torch.float64)
    prototypes = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    options = {"metric": "euclidean"}
    greedy = assign_labels(features, prototypes, 1, assignment="greedy", **options)
    optimal = assign_labels(features, prototypes, 1, assignment="optimal", **options)
    assert greedy.indices.tolist() == [1, 0]
    assert total(greedy) == -4.5
    assert optimal.indices.tolist() == [0, 1]
    assert total(optimal) == -3.5


@every_rule
@given(metric=metrics, problem=assignments())
def test_entries_come_cluster_by_cluster_nearest_first_free_last(rule, metric, problem):
    features, prototypes, counts = problem
    actual = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
    for cluster, (labels, values, indices) in enumerate(
        zip(*(f.split(counts) for f in (actual.labels, actual.similarity, actual.indices)))  # noqa: B905
    ):
        taken = int((indices >= 0).sum())
        assert labels.tolist() == [cluster] * taken + [-1] * (len(labels) - taken)
        assert indices[taken:].eq(-1).all()
        assert values[taken:].eq(-math.inf).all()
        keys = [(-v, i) for v, i in zip(values.tolist(), indices.tolist(), strict=True)][:taken]
        assert keys == sorted(keys)


@pytest.mark.parametrize("rule", ["overlap", "nearest"])
def test_counts_may_sum_above_m_where_samples_are_shared(rule):
    features, prototypes = gaussian(0, 6, 3), gaussian(1, 3, 3)
    actual = assign_labels(features, prototypes, 6, assignment=rule)
    table = expected_table(features, prototypes, "cosine")
    assert_entries(actual, oracles.assign(table, 6, rule), atol=1e-12)


@every_rule
def test_one_cluster_takes_its_nearest(rule):
    features, prototypes = gaussian(0, 9, 4), gaussian(1, 1, 4)
    expected = expected_table(features, prototypes, "cosine")[0].sort(descending=True)
    actual = assign_labels(features, prototypes, 9, assignment=rule)
    assert torch.equal(actual.indices, expected.indices)
    assert actual.labels.eq(0).all()


@every_rule
@both_metrics
def test_as_many_clusters_as_samples(rule, metric):
    features = gaussian(0, 5, 4)
    actual = assign_labels(features, features.flip(0), 1, assignment=rule, metric=metric)
    assert actual.indices.tolist() == [4, 3, 2, 1, 0]
    assert actual.labels.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(actual.similarity, torch.full((5,), float(metric == "cosine")).double())


@every_rule
def test_no_head_gets_no_label(rule):
    features, probs = gaussian(0, 6, 4), torch.full((0, 6, 3), 1 / 3)
    actual = prototype_labels(features, probs, assignment=rule)
    assert actual.labels.shape == actual.indices.shape == (0, 6)
    assert actual.prototypes.shape == (0, 3, 4)


# Relations ---------------------------------------------------------------------------------------


@every_rule
@given(metric=metrics, problem=assignments(ties=False), seed=seeds)
def test_permuting_samples_renames_them(rule, metric, problem, seed):
    features, prototypes, counts = problem
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    actual = assign_labels(features[order], prototypes, counts, assignment=rule, metric=metric)
    renamed = actual._replace(
        indices=torch.where(actual.indices < 0, -1, order[actual.indices.clamp(min=0)])
    )
    expected = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
    assert_identical(renamed, expected)


@pytest.mark.parametrize("rule", ["overlap", "greedy", "optimal", "nearest"])
@given(metric=metrics, problem=assignments(ties=False), data=st.data())
def test_permuting_clusters_renames_labels(rule, metric, problem, data):
    features, prototypes, counts = problem
    order = data.draw(st.permutations(range(len(counts))))
    expected = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
    actual = assign_labels(
        features, prototypes[order], [counts[c] for c in order], assignment=rule, metric=metric
    )
    for new, old in enumerate(order):
        for field in ("indices", "similarity"):
            ours = getattr(actual, field).split([counts[c] for c in order])[new]
            assert torch.equal(ours, getattr(expected, field).split(counts)[old])


def test_permuting_clusters_matters_when_they_are_served_in_order():
    # Sample 0 is the nearest of both clusters: whoever is served first gets it.
    features = torch.tensor([[0.0], [3.0]])
    prototypes = torch.tensor([[1.0], [-1.0]])
    options = {"assignment": "sequential", "metric": "euclidean"}
    first = assign_labels(features, prototypes, 1, **options)
    second = assign_labels(features, prototypes.flip(0), 1, **options)
    assert first.indices.tolist() == [0, 1]
    assert second.indices.tolist() == [0, 1]


@given(
    rule=rules,
    problem=assignments(),
    exponents=st.lists(st.integers(-60, 60), min_size=24, max_size=24),
)
@example(
    rule="greedy",
    problem=(gaussian(0, 4, 3), gaussian(1, 2, 3), [2, 1]),
    exponents=[60, -60, 60, -60] * 6,
)
def test_powers_of_two_change_nothing_under_cosine(rule, problem, exponents):
    features, prototypes, counts = problem
    features, prototypes = features.float(), prototypes.float()
    scales = torch.tensor(exponents).float().exp2().unsqueeze(-1)
    expected = assign_labels(features, prototypes, counts, assignment=rule)
    scaled = assign_labels(
        features * scales[: len(features)],
        prototypes * scales[-len(prototypes) :],
        counts,
        assignment=rule,
    )
    assert torch.equal(scaled.indices, expected.indices)
    assert torch.equal(scaled.similarity, expected.similarity)


@given(rule=rules, problem=assignments(ties=False), seed=seeds)
def test_rotations_change_nothing(rule, problem, seed):
    features, prototypes, counts = problem
    turn = rotation(seed, features.shape[1])
    for metric in METRICS:
        expected = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
        turned = assign_labels(
            features @ turn, prototypes @ turn, counts, assignment=rule, metric=metric
        )
        assert torch.equal(turned.indices, expected.indices)
        torch.testing.assert_close(turned.similarity, expected.similarity, rtol=0, atol=1e-12)


@given(rule=rules, problem=assignments(ties=False), seed=seeds)
def test_translations_change_nothing_under_euclidean(rule, problem, seed):
    features, prototypes, counts = problem
    shift = gaussian(seed, features.shape[1])
    expected = assign_labels(features, prototypes, counts, assignment=rule, metric="euclidean")
    moved = assign_labels(
        features + shift, prototypes + shift, counts, assignment=rule, metric="euclidean"
    )
    assert torch.equal(moved.indices, expected.indices)
    torch.testing.assert_close(moved.similarity, expected.similarity, rtol=0, atol=1e-12)


# Edges -------------------------------------------------------------------------------------------


@both_metrics
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("magnitude", ["huge", "tiny"])
def test_huge_and_tiny_rows_neither_overflow_nor_vanish(metric, dtype, magnitude):
    exponent = {torch.float32: 100, torch.float64: 900}[dtype] * (1 if magnitude == "huge" else -1)
    scale = 2.0**exponent
    features, prototypes = gaussian(0, 8, 5, dtype=dtype), gaussian(1, 2, 5, dtype=dtype)
    actual = assign_labels(features * scale, prototypes * scale, 4, metric=metric)
    expected = assign_labels(features, prototypes, 4, metric=metric)
    assert torch.equal(actual.indices, expected.indices)
    back = 1.0 if metric == "cosine" else scale
    torch.testing.assert_close(actual.similarity / back, expected.similarity, rtol=1e-6, atol=0)


@pytest.mark.parametrize("apart", [1e-3, 1e-6, 1e-8, 1e-9, 1e-10, 1e-12])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_distances_of_close_rows_are_right_to_the_last_digits(dim, apart):
    for seed in range(20):
        features = gaussian(seed, 1, dim) + apart * gaussian(seed + 1, 6, dim)
        actual = assign_labels(features, features[:1], 6, metric="euclidean")
        rows = features[actual.indices].tolist()
        expected = [-math.dist(features[0].tolist(), row) for row in rows]
        assert actual.similarity.tolist() == pytest.approx(expected, rel=1e-15, abs=0)


def test_rows_apart_by_a_few_last_places_are_apart():
    features = torch.tensor([[1.0, 2.0], [1.0 + 2.0**-50, 2.0]], dtype=torch.float64)
    actual = assign_labels(features, features[:1], 2, metric="euclidean")
    assert actual.similarity.tolist() == [0.0, -(2.0**-50)]


@pytest.mark.parametrize("rule", ASSIGNMENTS)
def test_similarities_are_as_precise_as_the_features(rule):
    features = gaussian(0, 6, 3)
    for wide, narrow in ((torch.float64, torch.float32), (torch.float32, torch.float64)):
        made = assign_labels(features.to(wide), features[:2].to(narrow), 2, assignment=rule)
        assert made.similarity.dtype == wide


def test_far_from_the_origin_distances_keep_their_digits():
    features = torch.tensor([[4096.0], [4097.0], [4098.5], [4095.75]])
    actual = assign_labels(features, torch.tensor([[4096.25]]), 4, metric="euclidean")
    assert actual.indices.tolist() == [0, 3, 1, 2]
    assert actual.similarity.tolist() == [-0.25, -0.5, -0.75, -2.25]


def test_small_components_beside_large_ones_are_not_lost():
    features = torch.tensor([[1.0, 1e-15], [1.0, 2e-15], [1.0, 0.0]])
    actual = assign_labels(features, torch.tensor([[0.0, 1.0]]), 3)
    assert actual.indices.tolist() == [1, 0, 2]
    features = torch.tensor([[1e6, 1e-9], [1e6, -2e-9], [1e6, 5e-10]])
    actual = assign_labels(features, torch.tensor([[1e6, 0.0]]), 3, metric="euclidean")
    assert actual.indices.tolist() == [2, 0, 1]


@pytest.mark.parametrize("rule", ["overlap", *EXCLUSIVE])
def test_quotas_hold_where_a_distance_exceeds_float32(rule):
    features, prototypes = torch.tensor([[3e38], [-3e38]]), torch.tensor([[3e38]])
    actual = assign_labels(features, prototypes, 2, assignment=rule, metric="euclidean")
    assert actual.indices.tolist() == [0, 1]
    assert actual.labels.tolist() == [0, 0]


def test_float64_features_are_compared_to_their_last_digits():
    order = torch.randperm(30)
    features = (1 + torch.arange(30, dtype=torch.float64) * 2.0**-50)[order].view(-1, 1)
    actual = assign_labels(features, torch.zeros(1, 1).double(), 30, metric="euclidean")
    assert torch.equal(actual.indices, order.argsort())


def test_zero_rows_and_zero_prototypes_are_alike_to_nothing():
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    actual = assign_labels(features, prototypes, 4)
    assert actual.indices.tolist() == [1, 0, 2, 3, 0, 1, 2, 3]
    assert actual.similarity.tolist() == [1, 0, 0, -1, 0, 0, 0, 0]


def test_a_row_is_exactly_alike_to_itself():
    features = gaussian(0, 50, 33, dtype=torch.float32)
    table = reported_table(features, features, "cosine")
    assert torch.equal(table.diagonal(), torch.ones(50).double())
    assert table.abs().max() <= 1
    assert reported_table(features, features, "euclidean").diagonal().eq(0).all()


@every_rule
def test_layout_does_not_show(rule):
    features, prototypes = gaussian(0, 12, 5, dtype=torch.float32), gaussian(1, 3, 5).float()
    expected = assign_labels(features, prototypes, [2, 3, 4], assignment=rule)
    for view in (features.t().contiguous().t(), features.repeat_interleave(2, 0)[::2]):
        strided = prototypes.t().contiguous().t()
        assert_identical(assign_labels(view, strided, [2, 3, 4], assignment=rule), expected)
    copies = assign_labels(features, prototypes.expand(3, 3, 5), [2, 3, 4], assignment=rule)
    for position in range(3):
        assert_identical(head(copies, (position,)), expected)


@every_rule
def test_no_gradient_and_inputs_unchanged(rule):
    features = gaussian(0, 8, 3).requires_grad_()
    prototypes = gaussian(1, 2, 3).requires_grad_()
    before = features.detach().clone(), prototypes.detach().clone()
    actual = assign_labels(features, prototypes, 3, assignment=rule)
    assert not any(field.requires_grad for field in actual[:4])
    assert torch.equal(features, before[0])
    assert torch.equal(prototypes, before[1])


@pytest.mark.parametrize("num_clusters", [2, 7, 20])
@pytest.mark.parametrize("levels", [2, 5, 10_000])
@pytest.mark.parametrize("seed", range(4))
def test_large_exclusive_problems_with_ties(num_clusters, levels, seed):
    """Line data with many exactly equal distances, unequal quotas, nearly everybody labelled."""
    rng = torch.Generator().manual_seed(seed)
    features = torch.randint(0, levels, (80, 1), generator=rng).double()
    prototypes = torch.randint(0, levels, (num_clusters, 1), generator=rng).double()
    counts = torch.randint(1, 2 * 80 // num_clusters - 1, (num_clusters,), generator=rng).tolist()
    while sum(counts) > 80:
        counts[counts.index(max(counts))] -= 1
    table = expected_table(features, prototypes, "euclidean")
    actual = assign_labels(features, prototypes, counts, assignment="greedy", metric="euclidean")
    assert_entries(actual, oracles.assign(table.tolist(), counts, "greedy"))
    best = assign_labels(features, prototypes, counts, assignment="optimal", metric="euclidean")
    reached = math.fsum(oracles.assign(table.tolist(), counts, "optimal").similarity)
    assert total(best).item() == pytest.approx(reached, abs=1e-9)
    assert len(set(best.indices.tolist())) == sum(counts)


def test_results_stay_on_the_device(device):
    features, prototypes = gaussian(0, 9, 3).to(device), gaussian(1, 2, 3).to(device)
    for rule in ASSIGNMENTS:
        actual = assign_labels(features, prototypes, 3, assignment=rule)
        assert all(field.device.type == device.type for field in actual[:4])
        expected = assign_labels(features.cpu(), prototypes.cpu(), 3, assignment=rule)
        assert torch.equal(actual.indices.cpu(), expected.indices)


@pytest.mark.parametrize(
    ("metric", "prototypes", "count"),
    [
        ("euclidean", [[2.9], [0.6], [-0.4], [1.8]], 1),
        ("cosine", [[-1.5e-10, 1.0], [-0.1, 1.0], [-4.5e-11, 1.0]], 3),
    ],
)
def test_moves_among_equal_rows_that_gain_nothing_but_rounding_come_to_an_end(
    metric, prototypes, count
):
    prototypes = torch.tensor(prototypes, dtype=torch.float64)
    row = torch.full((1, 1), 0.1) if metric == "euclidean" else torch.tensor([[1.0, 0.0]])
    features = row.double().expand(len(prototypes) * count, -1)
    actual = assign_labels(features, prototypes, count, assignment="optimal", metric=metric)
    assert sorted(actual.labels.tolist()) == [
        c for c in range(len(prototypes)) for _ in range(count)
    ]


@both_metrics
@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1.0, 1e150])
@given(seed=seeds, shape=st.tuples(*[st.integers(1, 3)] * 3), count=st.integers(1, 4))
def test_few_different_rows_are_matched_as_well_as_can_be(metric, scale, seed, shape, count):
    num_clusters, dim, kinds = shape
    size = num_clusters * count + dim
    rows = scale * gaussian(seed, kinds, dim)[torch.arange(size) * 5 % kinds]
    prototypes = scale * gaussian(seed + 1, num_clusters, dim)
    table = expected_table(rows, prototypes, metric)
    actual = assign_labels(rows, prototypes, count, assignment="optimal", metric=metric)
    best = math.fsum(oracles.assign(table, [count] * num_clusters, "optimal").similarity)
    off = 1e-12 * size * table.abs().max().item()
    assert total(actual).item() == pytest.approx(best, rel=0, abs=off)
    assert actual.labels.bincount().tolist() == [count] * num_clusters


@pytest.mark.parametrize("apart", [1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("seed", range(5))
def test_small_differences_decide_what_is_optimal(seed, apart):
    rows = gaussian(seed, 1, 3) + apart * gaussian(seed + 10, 12, 3)
    prototypes = gaussian(seed + 20, 4, 3)
    table = expected_table(rows, prototypes, "euclidean")
    best = oracles.assign(table, [2] * 4, "optimal").similarity
    actual = assign_labels(rows, prototypes, 2, assignment="optimal", metric="euclidean")
    # The sums are as exact as the similarities: what is left is a small part of what decides.
    lost = math.fsum([*best, *(-x for x in actual.similarity.tolist())])
    assert lost <= 8 * 2.0**-46 * table.abs().max().item()
    assert lost <= 1e-3 * apart or apart < 1e-10
