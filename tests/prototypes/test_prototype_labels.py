"""SPICE Eq. 2-4 in one call."""

import math

import numpy as np
import oracles
import pytest
import torch
from comparisons import assert_entries, assert_identical, head, positions
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import (
    ASSIGNMENTS,
    DTYPES,
    HEADS,
    METRICS,
    gaussian,
    labellings,
    metrics,
    rotation,
    rules,
    seeds,
)

from pseudolabel import (
    assign_labels,
    class_prototypes,
    nearest_prototype,
    prototype_labels,
    select_confident,
)

both_metrics = pytest.mark.parametrize("metric", METRICS)
every_rule = pytest.mark.parametrize("rule", ASSIGNMENTS)
ratios = st.integers(1, 100).map(lambda percent: percent / 100)


def label_counts(pseudo, num_clusters):
    return torch.bincount(pseudo.labels, minlength=num_clusters).tolist()


def is_decided(problem, table, chosen, tolerance=1e-9):
    rows = [tuple(row) for row in problem.features.tolist()]
    names = [tuple(rows[i] for i in members) for members in chosen]
    return oracles.decided(table, rows, names, tolerance)


# Fig. 4 of SPICE ---------------------------------------------------------------------------------

ANGLES = [0, 5, 330, -6, 118, 124, 150, 178, 184, 250]
FIG4_PROBS = torch.tensor(
    [  # the three columns' leaders and ties as printed; rows sum to 1
        [0.99, 0.005, 0.005],
        [0.80, 0.10, 0.10],
        [0.55, 0.05, 0.40],
        [0.40, 0.15, 0.45],
        [0.01, 0.98, 0.01],
        [0.10, 0.80, 0.10],
        [0.01, 0.50, 0.49],
        [0.02, 0.01, 0.97],
        [0.08, 0.10, 0.82],
        [0.20, 0.35, 0.45],
    ]
)


@pytest.fixture
def fig4():
    angles = torch.tensor(ANGLES, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float(), FIG4_PROBS


def test_fig4_the_three_most_confident(fig4):
    assert select_confident(fig4[1], 3).tolist() == [[0, 1, 2], [4, 5, 6], [7, 8, 6]]


def test_fig4_with_the_papers_prototypes(fig4):
    pseudo = prototype_labels(*fig4, prototype_ratio=1.0)
    by_cluster = [sorted(part.tolist()) for part in pseudo.indices.split(3)]
    assert by_cluster == [[0, 1, 3], [4, 5, 6], [6, 7, 8]]
    assert pseudo.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    hot = pseudo.multi_hot(10)
    assert hot[6].tolist() == [False, True, True]
    assert pseudo.dense(10).tolist() == [0, 0, -1, 0, 1, 1, 1, 2, 2, -1]


def test_fig4_with_the_published_codes_prototypes(fig4):
    """Half of a share of three is one sample: the centres are S01, S05 and S08 themselves."""
    pseudo = prototype_labels(*fig4)
    assert torch.allclose(pseudo.prototypes, fig4[0][[0, 4, 7]])
    # S01: 0, 5, -6 degrees; S05: 118, 124, 150; S08: 178, 184, 150.
    assert pseudo.indices.tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 6]
    assert pseudo.dense(10).tolist() == [0, 0, -1, 0, 1, 1, 2, 2, 2, -1]
    assert pseudo.similarity[6 - 1].item() == pytest.approx(math.cos(math.radians(32)), abs=1e-6)
    assert pseudo.similarity[9 - 1].item() == pytest.approx(math.cos(math.radians(28)), abs=1e-6)


def test_fig4_margins(fig4):
    """Each cluster's third member, by the dot product with its centre."""
    pseudo = prototype_labels(*fig4, prototype_ratio=1.0)
    third = pseudo.similarity.view(3, 3)[:, -1] * pseudo.prototypes.norm(dim=-1)
    assert third.tolist() == pytest.approx([0.938, 0.916, 0.904], abs=5e-4)


@pytest.mark.parametrize("rule", ["greedy", "optimal", "sequential"])
def test_fig4_exclusive_labels_leave_one_sample_out(fig4, rule):
    pseudo = prototype_labels(*fig4, prototype_ratio=1.0, assignment=rule)
    assert len(set(pseudo.indices.tolist())) == 9
    assert label_counts(pseudo, 3) == [3, 3, 3]


def float64_tensor(values):
    return torch.tensor(values, dtype=torch.float64)


# How many ----------------------------------------------------------------------------------------


@given(
    st.integers(1, 6).flatmap(
        lambda k: st.tuples(
            st.lists(st.integers(1, 1000), min_size=k, max_size=k), st.integers(k, 60)
        )
    )
)
def test_priors_are_shared_out_exactly(case):
    weights, num_samples = case
    prior = [w / 1000 for w in weights]
    features, probs = gaussian(0, num_samples, 2), torch.full((num_samples, len(prior)), 0.5)
    expected = oracles.shares(num_samples, len(prior), prior)
    pseudo = prototype_labels(features, probs, prior=prior)
    assert label_counts(pseudo, len(prior)) == expected
    assert sum(expected) <= num_samples


@pytest.mark.parametrize(
    ("num_samples", "prior", "expected"),
    [
        (10, [0.1, 0.2, 0.7], [1, 2, 7]),
        (100, [0.29, 0.71], [29, 71]),
        (100, [0.57, 0.14, 0.29], [57, 14, 29]),
        (9, [1 / 3, 1 / 3, 1 / 3], [3, 3, 3]),
        (10, [1, 1, 1], [3, 3, 3]),
        (10, [2, 6, 2], [2, 6, 2]),
        (5, [1000, 1, 1, 1, 1], [1, 1, 1, 1, 1]),
        (7, [3, 3, 0.001, 0.001, 0.001], [2, 2, 1, 1, 1]),
        (6, [3, 3, 0.001, 0.001, 0.001], [1, 2, 1, 1, 1]),
        (6, [0.001, 3, 3, 0.001, 0.001], [1, 1, 2, 1, 1]),
        (30, [0.7e-6, 1.4e-6], [10, 20]),
        (40, [1e-300, 3e-300], [10, 30]),
        (40, [10**13, 3 * 10**13], [10, 30]),
    ],
)
@pytest.mark.parametrize("kind", [list, tuple, np.array, float64_tensor])
def test_priors_by_hand(num_samples, prior, expected, kind):
    features, probs = gaussian(0, num_samples, 2), torch.full((num_samples, len(prior)), 0.5)
    pseudo = prototype_labels(features, probs, prior=kind(prior))
    assert label_counts(pseudo, len(prior)) == expected


@pytest.mark.parametrize("kind", [np.float32, torch.tensor])
@pytest.mark.parametrize(
    ("num_samples", "prior", "expected"),
    [
        (10, [0.1, 0.2, 0.7], [1, 2, 7]),
        (20, [0.95, 0.05], [19, 1]),
        (9, [1 / 3] * 3, [3, 3, 3]),
        (9, [1 / 3, 2 / 3], [3, 6]),
        (30, [0.7e-6, 1.4e-6], [10, 20]),
    ],
)
def test_priors_in_single_precision(num_samples, prior, expected, kind):
    features, probs = gaussian(0, num_samples, 2), torch.full((num_samples, len(prior)), 0.5)
    pseudo = prototype_labels(features, probs, prior=kind(prior))
    assert label_counts(pseudo, len(prior)) == expected


@given(st.integers(1, 120), ratios, ratios, st.integers(1, 3))
def test_ratios_are_decimals(num_samples, prototype_ratio, label_ratio, num_clusters):
    assume(num_samples >= num_clusters)
    features = torch.arange(num_samples, dtype=torch.float64).view(-1, 1)
    probs = torch.linspace(1, 0, num_samples).view(-1, 1).expand(-1, num_clusters)
    pseudo = prototype_labels(
        features,
        probs,
        prototype_ratio=prototype_ratio,
        label_ratio=label_ratio,
        metric="euclidean",
    )
    share = num_samples // num_clusters
    assert label_counts(pseudo, num_clusters) == [oracles.part(label_ratio, share)] * num_clusters
    # The mean of 0, 1, ..., n - 1 tells how many made the prototype.
    made_of = 2 * pseudo.prototypes[:, 0] + 1
    assert made_of.tolist() == [oracles.part(prototype_ratio, share)] * num_clusters


@pytest.mark.parametrize(
    ("ratio", "share", "expected"),
    [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.7, 10, 7),
        (float(np.float32(0.7)), 10, 7),
        (np.float32(0.7), 10, 7),
        (np.float64(0.29), 100, 29),
        (1 / 3, 9, 3),
        (float(np.float32(1 / 3)), 9, 3),
        (0.5, 3, 1),
        (0.5, 1, 1),
        (1, 7, 7),
    ],
)
def test_ratios_by_hand(ratio, share, expected):
    features, probs = gaussian(0, share, 2), torch.full((share, 1), 0.5)
    assert prototype_labels(features, probs, label_ratio=ratio).indices.numel() == expected
    line = torch.arange(share, dtype=torch.float64).view(-1, 1)
    pseudo = prototype_labels(line, probs, prototype_ratio=ratio, metric="euclidean")
    assert 2 * pseudo.prototypes.item() + 1 == expected


def test_ratios_apply_to_each_share_of_a_prior():
    features, probs = gaussian(0, 20, 2), torch.full((20, 3), 0.5)
    pseudo = prototype_labels(features, probs, prior=[0.5, 0.35, 0.15], label_ratio=0.5)
    assert label_counts(pseudo, 3) == [5, 3, 1]


def test_a_share_of_one_still_makes_a_prototype():
    features = gaussian(0, 3, 2)
    pseudo = prototype_labels(features, torch.eye(3), prototype_ratio=0.5)
    assert pseudo.indices.tolist() == [0, 1, 2]
    assert torch.equal(pseudo.similarity, torch.ones(3).double())


# Against the oracle ------------------------------------------------------------------------------


@both_metrics
@every_rule
@given(problem=labellings(), prototype_ratio=ratios, label_ratio=ratios, data=st.data())
def test_equals_the_oracle(rule, metric, problem, prototype_ratio, label_ratio, data):
    num_clusters = problem.probs.shape[-1]
    weights = st.lists(st.integers(1, 20), min_size=num_clusters, max_size=num_clusters)
    options = {
        "prototype_ratio": prototype_ratio,
        "label_ratio": label_ratio,
        "prior": data.draw(st.none() | weights),
        "assignment": rule,
        "metric": metric,
    }
    expected, prototypes, table, chosen = oracles.prototype_labels(
        problem.features.tolist(), problem.probs.tolist(), **options
    )
    actual = prototype_labels(*problem, **options)
    torch.testing.assert_close(
        actual.prototypes, torch.tensor(prototypes, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assume(is_decided(problem, table, chosen))
    if rule == "optimal":
        reached = actual.similarity.sum().item()
        assert reached == pytest.approx(math.fsum(expected.similarity), abs=1e-10)
        assert actual.labels.tolist() == expected.labels
    else:
        assert_entries(actual, expected, atol=1e-12)


def decided_labelling(dtype, heads, ties, metric, options):
    """The first seed whose answer hangs on no rounding of this dtype."""
    for seed in range(500):
        features = gaussian(seed, 24, 3, dtype=dtype)
        probs = gaussian(seed + 1, *heads, 24, 3).mul(2).softmax(-1).to(dtype)
        if ties:
            features = features[torch.arange(24) * 5 % 8]
            probs = (probs * 4).round() / 4
        flat = probs.reshape(-1, 24, 3)
        expected = [
            oracles.prototype_labels(features.tolist(), one.tolist(), metric=metric, **options)
            for one in flat
        ]
        rows = [tuple(row) for row in features.tolist()]
        if all(
            oracles.decided(table, rows, [tuple(rows[i] for i in m) for m in chosen], 1e-5)
            for _, _, table, chosen in expected
        ):
            return features, probs, [entries for entries, *_ in expected]
    raise AssertionError("no seed is decided")


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@both_metrics
@every_rule
def test_every_dtype_head_and_tie(rule, metric, dtype, heads, ties):
    options = {"prior": [5, 2, 1], "assignment": rule}
    features, probs, expected = decided_labelling(dtype, heads, ties, metric, options)
    together = prototype_labels(features, probs, metric=metric, **options)
    result_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    assert together.similarity.dtype == together.prototypes.dtype == result_dtype
    assert together.indices.shape == (*heads, 24 * 5 // 8 + 24 * 2 // 8 + 24 // 8)
    for position, entries in zip(positions(heads), expected, strict=True):
        apart = prototype_labels(features, probs[position], metric=metric, **options)
        assert_identical(head(together, position), apart)
        if rule == "optimal" and ties:
            reached = apart.similarity.double().sum().item()
            assert reached == pytest.approx(math.fsum(entries.similarity), abs=1e-5)
        else:
            assert_entries(apart, entries, atol=2e-6)


@given(rule=rules, metric=metrics, problem=labellings(heads=(3,)))
def test_heads_together_are_heads_apart(rule, metric, problem):
    features, probs = problem
    together = prototype_labels(features, probs, assignment=rule, metric=metric)
    for position in range(3):
        apart = prototype_labels(features, probs[position], assignment=rule, metric=metric)
        assert_identical(head(together, (position,)), apart)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [3, 33, 100])
def test_many_heads_of_a_real_size_are_heads_apart(dim, dtype):
    features = gaussian(0, 333, dim, dtype=dtype)
    probs = gaussian(1, 5, 333, 7).softmax(-1).to(dtype)
    together = prototype_labels(features, probs, assignment="greedy")
    for position in range(5):
        apart = prototype_labels(features, probs[position], assignment="greedy")
        assert_identical(head(together, (position,)), apart)


def test_is_its_three_steps():
    features, probs = gaussian(0, 30, 4), gaussian(1, 2, 30, 3).softmax(-1)
    prototypes = class_prototypes(features, select_confident(probs, 5))
    expected = assign_labels(features, prototypes, 10, metric="euclidean")
    assert_identical(prototype_labels(features, probs, metric="euclidean"), expected)


def test_rows_are_normalised_under_cosine_alone():
    features = torch.tensor([[10.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    probs = torch.tensor([[1.0], [0.9], [0.8]])
    cosine = prototype_labels(features, probs, prototype_ratio=1.0)
    torch.testing.assert_close(cosine.prototypes, torch.full((1, 2), 1 / 3))
    assert cosine.similarity[-1] == 0
    euclidean = prototype_labels(features, probs, prototype_ratio=1.0, metric="euclidean")
    torch.testing.assert_close(euclidean.prototypes, torch.tensor([[10 / 3, 1 / 3]]))


# Ties --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [1, 3, 17, 33, 100])
def test_blocks_of_equal_samples_go_to_the_lowest_index(dim, dtype):
    """Saturated probabilities and duplicated rows: cluster c is made of, and takes, copies of c."""
    kinds = torch.arange(330) * 7 % 3
    features = torch.eye(3, max(dim, 3), dtype=dtype)[kinds]
    if dim == 1:
        features = torch.tensor([[-1.0], [0.0], [1.0]], dtype=dtype)[kinds]
    probs = torch.nn.functional.one_hot(kinds, 3).to(dtype)
    for rule in ASSIGNMENTS:
        pseudo = prototype_labels(
            features, probs, assignment=rule, label_ratio=0.5, metric="euclidean"
        )
        copies = [torch.nonzero(kinds == c).flatten()[:55].tolist() for c in range(3)]
        if rule == "optimal":
            assert torch.equal(kinds[pseudo.indices], pseudo.labels)
        else:
            assert [part.tolist() for part in pseudo.indices.split(55)] == copies
        assert pseudo.similarity.eq(0).all()


@both_metrics
@every_rule
def test_all_samples_identical(rule, metric):
    features = gaussian(0, 1, 17, dtype=torch.float32).expand(30, 17)
    probs = torch.full((30, 3), 1 / 3)
    pseudo = prototype_labels(features, probs, assignment=rule, metric=metric)
    assert pseudo.similarity[pseudo.indices >= 0].unique().numel() == 1
    if rule == "overlap":
        assert pseudo.indices.tolist() == list(range(10)) * 3
    elif rule in ("greedy", "sequential"):
        assert pseudo.indices.tolist() == list(range(30))
    elif rule == "nearest":
        assert pseudo.indices.tolist() == [*range(10), *[-1] * 20]
    assert pseudo.prototypes.isfinite().all()


@both_metrics
@every_rule
def test_all_rows_zero(rule, metric):
    pseudo = prototype_labels(torch.zeros(9, 4), torch.rand(9, 3), assignment=rule, metric=metric)
    assert pseudo.similarity[pseudo.indices >= 0].eq(0).all()
    assert pseudo.prototypes.eq(0).all()


# Relations ---------------------------------------------------------------------------------------


def undecided(problem, metric="cosine"):
    rows, probs = problem.features.tolist(), problem.probs.tolist()
    _, _, table, chosen = oracles.prototype_labels(rows, probs, metric=metric)
    # Equal sets in another order are equal prototypes up to rounding: names are sets here.
    names = [(c, tuple(sorted(members))) for c, members in enumerate(chosen)]
    return not oracles.decided(table, range(len(rows)), names, 1e-9)


@given(rule=rules, metric=metrics, problem=labellings(ties=False), seed=seeds)
def test_permuting_samples_renames_them(rule, metric, problem, seed):
    assume(not undecided(problem, metric))
    features, probs = problem
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    options = {"assignment": rule, "metric": metric}
    actual = prototype_labels(features[order], probs[order], **options)
    expected = prototype_labels(features, probs, **options)
    renamed = torch.where(actual.indices < 0, -1, order[actual.indices.clamp(min=0)])
    assert torch.equal(renamed, expected.indices)
    assert torch.equal(actual.labels, expected.labels)
    torch.testing.assert_close(actual.prototypes, expected.prototypes, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["overlap", "greedy", "optimal", "nearest"])
@given(metric=metrics, problem=labellings(ties=False), data=st.data())
def test_permuting_clusters_renames_labels(rule, metric, problem, data):
    assume(not undecided(problem, metric))
    features, probs = problem
    order = data.draw(st.permutations(range(probs.shape[1])))
    options = {"assignment": rule, "metric": metric}
    actual = prototype_labels(features, probs[:, order], **options)
    expected = prototype_labels(features, probs, **options)
    width = len(features) // len(order)
    assert torch.equal(actual.prototypes, expected.prototypes[order])
    for field in ("indices", "similarity"):
        ours = torch.stack(getattr(actual, field).split(width))
        assert torch.equal(ours, torch.stack(getattr(expected, field).split(width))[order])


def test_permuting_clusters_matters_when_they_are_served_in_order():
    """Three samples want one cluster; whoever is served first has the choice."""
    features = torch.tensor([[0.0], [1.0], [0.4], [9.0]])
    probs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 0.0]])
    options = {"assignment": "sequential", "metric": "euclidean"}
    dense = prototype_labels(features, probs, **options).dense(4)
    flipped = prototype_labels(features, probs.flip(1), **options).dense(4)
    assert dense.tolist() == [0, 1, 0, 1]
    assert (1 - flipped).tolist() == [0, 1, 1, 0]


@given(
    rule=rules,
    problem=labellings(),
    exponents=st.lists(st.integers(-60, 60), min_size=16, max_size=16),
)
def test_powers_of_two_change_nothing_under_cosine(rule, problem, exponents):
    features, probs = problem
    features = features.float()
    scales = torch.tensor(exponents[: len(features)]).float().exp2().unsqueeze(-1)
    expected = prototype_labels(features, probs, assignment=rule)
    assert_identical(prototype_labels(features * scales, probs, assignment=rule), expected)


@given(rule=rules, metric=metrics, problem=labellings(ties=False), seed=seeds)
def test_rotations_change_nothing(rule, metric, problem, seed):
    assume(not undecided(problem, metric))
    features, probs = problem
    turn = rotation(seed, features.shape[1])
    expected = prototype_labels(features, probs, assignment=rule, metric=metric)
    turned = prototype_labels(features @ turn, probs, assignment=rule, metric=metric)
    assert torch.equal(turned.indices, expected.indices)
    torch.testing.assert_close(turned.prototypes, expected.prototypes @ turn, rtol=0, atol=1e-12)


@given(rule=rules, problem=labellings(ties=False), seed=seeds)
def test_translations_change_nothing_under_euclidean(rule, problem, seed):
    assume(not undecided(problem, "euclidean"))
    features, probs = problem
    shift = gaussian(seed, features.shape[1])
    expected = prototype_labels(features, probs, assignment=rule, metric="euclidean")
    moved = prototype_labels(features + shift, probs, assignment=rule, metric="euclidean")
    assert torch.equal(moved.indices, expected.indices)
    torch.testing.assert_close(moved.similarity, expected.similarity, rtol=0, atol=1e-12)


@given(problem=labellings(ties=False))
def test_only_the_order_of_probabilities_matters(problem):
    features, probs = problem
    assert_identical(
        prototype_labels(features, probs / 2 + 0.25), prototype_labels(features, probs)
    )


@given(metric=metrics, problem=labellings(ties=False))
def test_optimal_is_never_below_greedy(metric, problem):
    optimal, greedy = (
        prototype_labels(*problem, assignment=rule, metric=metric).similarity.sum()
        for rule in ("optimal", "greedy")
    )
    assert optimal >= greedy - 1e-12


@every_rule
def test_layout_gradients_and_inputs(rule):
    features = gaussian(0, 4, 20, dtype=torch.float32).t().requires_grad_()
    probs = gaussian(1, 3, 20).softmax(0).t().requires_grad_()
    before = features.detach().clone(), probs.detach().clone()
    actual = prototype_labels(features, probs, assignment=rule)
    assert not any(field.requires_grad for field in actual[:4])
    plain = prototype_labels(features.contiguous(), probs.contiguous(), assignment=rule)
    assert_identical(actual, plain)
    every_second = prototype_labels(
        features.repeat_interleave(2, 0)[::2], probs.repeat_interleave(2, 0)[::2], assignment=rule
    )
    assert_identical(every_second, plain)
    assert torch.equal(features, before[0])
    assert torch.equal(probs, before[1])


def test_expanded_heads_agree():
    features, probs = gaussian(0, 12, 4), torch.rand(12, 3)
    copies = prototype_labels(features, probs.expand(3, 12, 3))
    for position in range(3):
        assert_identical(head(copies, (position,)), prototype_labels(features, probs))


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_one_cluster_and_as_many_clusters_as_samples(heads):
    features = gaussian(0, 6, 3)
    one = prototype_labels(features, torch.rand(*heads, 6, 1))
    assert one.indices.sort(-1).values.eq(torch.arange(6)).all()
    every = prototype_labels(features, torch.eye(6).expand(*heads, 6, 6))
    assert every.indices.eq(torch.arange(6)).all()
    assert every.labels.eq(torch.arange(6)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_huge_and_tiny_rows_label_alike_under_cosine(dtype, sign):
    scale = 2.0 ** (sign * {torch.float32: 100, torch.float64: 900}[dtype])
    features, probs = gaussian(0, 12, 5, dtype=dtype), torch.rand(12, 2)
    assert_identical(prototype_labels(features * scale, probs), prototype_labels(features, probs))


def test_prototypes_label_their_own_samples():
    """Well separated blobs: overlap labels, exclusive labels and nearest prototypes all agree."""
    kinds = torch.arange(60) % 4
    features = torch.eye(4)[kinds] + 0.05 * torch.randn(60, 4)
    probs = (4 * torch.eye(4)[kinds] + torch.randn(60, 4)).softmax(-1)
    for rule in ASSIGNMENTS:
        pseudo = prototype_labels(features, probs, assignment=rule)
        assert torch.equal(pseudo.dense(60), kinds)
        assert torch.equal(nearest_prototype(features, pseudo.prototypes), kinds)


@pytest.mark.parametrize("prior", [3, "abc", {1, 2}])
def test_a_prior_that_is_no_sequence_is_told(prior):
    with pytest.raises(TypeError, match=r"^prior: expected a sequence of K positive numbers, got "):
        prototype_labels(gaussian(0, 6, 2), torch.full((6, 2), 0.5), prior=prior)
