"""SPICE Eq. 6-7: local consistency, and which labels to trust."""

import re
from fractions import Fraction

import numpy as np
import oracles
import pytest
import torch
from comparisons import positions
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, HEADS, METRICS, feature_sets, gaussian, graphs, seeds

from pseudolabel import (
    Neighbors,
    nearest_neighbors,
    reliability_ratio,
    reliable_labels,
    reliable_mask,
)


def random_labels(seed, *shape, num_classes=3, low=-1):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(low, num_classes, shape))


def counting_graph():
    """101 samples with label 0, of whose 100 neighbours 0, 1, ..., 100 carry it; then 100 of -1."""
    labels = torch.cat([torch.zeros(101, dtype=torch.int64), torch.full((100,), -1)])
    alike, different = torch.arange(100), torch.arange(101, 201)
    rows = [torch.cat([alike[:count], different[count:]]) for count in range(101)]
    rows += [alike] * 100
    return torch.zeros(201, 2), labels, torch.stack(rows)


# The oracle by hand ------------------------------------------------------------------------------


def test_oracle_by_hand():
    labels, graph = [0, 0, 1, -1], [[1, 2], [0, 3], [0, 1], [3, 3]]
    assert oracles.reliability_ratio(labels, graph) == [Fraction(1, 2), Fraction(1, 2), 0, 0]
    assert oracles.reliable_before_balance(labels, graph, threshold=0.5) == [False] * 4
    kept = oracles.reliable_before_balance(labels, graph, threshold=0.5, strict=False)
    assert kept == [True, True, False, False]
    assert oracles.class_counts(labels, kept, 2) == [2, 0]
    assert oracles.balanced_size(labels, kept, 2) == 0
    kept = oracles.reliable_before_balance(
        labels,
        graph,
        threshold=0,
        probs=[[0.99, 0], [0.991, 0], [1, 0], [1, 0]],
        min_confidence=0.99,
    )
    assert kept == [False, True, False, False]


# The ratio ---------------------------------------------------------------------------------------


@given(graph=graphs())
def test_ratio_equals_the_oracle(graph):
    labels, neighbors = graph
    ratio = reliability_ratio(labels, neighbors)
    assert ratio.dtype == torch.float64
    expected = oracles.reliability_ratio(labels.tolist(), neighbors.tolist())
    assert ratio.tolist() == [float(r) for r in expected]


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_ratio_of_every_head(heads):
    labels, neighbors = random_labels(0, *heads, 50), random_labels(1, 50, 7, num_classes=50, low=0)
    together = reliability_ratio(labels, neighbors)
    assert together.shape == labels.shape
    for position in positions(heads):
        assert torch.equal(together[position], reliability_ratio(labels[position], neighbors))
        expected = oracles.reliability_ratio(labels[position].tolist(), neighbors.tolist())
        assert together[position].tolist() == [float(r) for r in expected]


def test_ratio_takes_neighbors_indices_and_arrays_alike():
    found = nearest_neighbors(gaussian(0, 40, 3), 5)
    labels = random_labels(0, 40)
    expected = reliability_ratio(labels, found)
    assert torch.equal(reliability_ratio(labels, found.indices), expected)
    assert torch.equal(reliability_ratio(labels.numpy(), found), expected)


def test_unlabelled_samples_agree_with_nobody():
    labels = torch.full((4,), -1)
    neighbors = torch.tensor([[1, 2], [0, 2], [0, 1], [0, 1]])
    assert reliability_ratio(labels, neighbors).tolist() == [0.0] * 4


def test_the_nearest_neighbour_counts_like_the_others():
    """A rule that reads its label from the first column, or drops it, gives another answer."""
    labels = torch.tensor([0, 1, 1, 0])
    neighbors = torch.tensor([[1, 2, 3], [2, 0, 3], [1, 0, 3], [0, 1, 2]])
    third = 1 / 3
    assert reliability_ratio(labels, neighbors).tolist() == [third, third, third, third]


@given(graph=graphs(), seed=seeds)
def test_the_order_of_the_neighbours_does_not_matter(graph, seed):
    labels, neighbors = graph
    order = torch.randperm(neighbors.shape[1], generator=torch.Generator().manual_seed(seed))
    shuffled = reliability_ratio(labels, neighbors[:, order])
    assert torch.equal(shuffled, reliability_ratio(labels, neighbors))


@given(graph=graphs(heads=(2,)), order=st.permutations(range(4)))
def test_renaming_classes_changes_nothing(graph, order):
    labels, neighbors = graph
    renamed = torch.where(labels < 0, -1, torch.tensor(order)[labels.clamp(min=0)])
    assert torch.equal(reliability_ratio(renamed, neighbors), reliability_ratio(labels, neighbors))


# The mask ----------------------------------------------------------------------------------------


@given(
    graph=graphs(heads=(2,)),
    strict=st.booleans(),
    threshold=st.integers(0, 8).flatmap(
        lambda k: st.integers(0, max(k, 1)).map(lambda c: c / max(k, 1))
    ),
)
def test_mask_equals_the_oracle(graph, strict, threshold):
    labels, neighbors = graph
    features = torch.zeros(labels.shape[-1], 1)
    mask = reliable_mask(features, labels, threshold=threshold, strict=strict, neighbors=neighbors)
    assert mask.dtype == torch.bool
    for head in range(2):
        expected = oracles.reliable_before_balance(
            labels[head].tolist(), neighbors.tolist(), threshold=threshold, strict=strict
        )
        assert mask[head].tolist() == expected


@pytest.mark.parametrize("kind", [float, np.float16, np.float32, lambda t: float(np.float32(t))])
@pytest.mark.parametrize("strict", [True, False])
def test_every_percentage_is_read_as_a_decimal(strict, kind):
    """Of 100 neighbours, 95 are not above 0.95 and 96 are; 29 reach 0.29."""
    features, labels, neighbors = counting_graph()
    exact = (
        range(101) if isinstance(kind, type) else [0, 5, 10, 20, 25, 50, 60, 75, 80, 90, 95, 100]
    )
    for percent in exact:
        mask = reliable_mask(
            features, labels, threshold=kind(percent / 100), strict=strict, neighbors=neighbors
        )
        reached = [c > percent if strict else c >= percent for c in range(101)]
        assert mask.tolist() == reached + [False] * 100, percent


def test_the_defaults_are_the_papers():
    features, labels, neighbors = counting_graph()
    assert reliable_mask(features, labels, neighbors=neighbors).nonzero().flatten().tolist() == [
        96, 97, 98, 99, 100,
    ]  # fmt: skip
    cloud = gaussian(0, 150, 4)
    clusters = (cloud[:, 0] > 0).long()
    expected = reliable_mask(cloud, clusters, k=100, threshold=0.95, strict=True)
    assert torch.equal(reliable_mask(cloud, clusters), expected)


def test_one_third_is_not_above_one_third():
    labels = torch.tensor([0, 0, 1, 1])
    neighbors = torch.tensor([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 0, 1]])
    options = {"neighbors": neighbors, "threshold": 1 / 3}
    assert not reliable_mask(torch.zeros(4, 1), labels, **options).any()
    assert reliable_mask(torch.zeros(4, 1), labels, strict=False, **options).all()


@given(
    graph=graphs(heads=(3,)),
    percents=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    strict=st.booleans(),
)
def test_a_higher_threshold_keeps_a_subset(graph, percents, strict):
    labels, neighbors = graph
    features = torch.zeros(labels.shape[-1], 1)
    loose, tight = (
        reliable_mask(features, labels, threshold=t / 100, strict=strict, neighbors=neighbors)
        for t in sorted(percents)
    )
    assert not (tight & ~loose).any()


@given(graph=graphs(), percent=st.integers(0, 100))
def test_strict_keeps_a_subset_and_unlabelled_are_never_reliable(graph, percent):
    labels, neighbors = graph
    features = torch.zeros(len(labels), 1)
    options = {"threshold": percent / 100, "neighbors": neighbors}
    strict = reliable_mask(features, labels, strict=True, **options)
    loose = reliable_mask(features, labels, strict=False, **options)
    assert not (strict & ~loose).any()
    assert not loose[labels < 0].any()


def test_a_threshold_of_zero_and_of_one():
    features, labels, neighbors = counting_graph()

    def kept(**options):
        return int(reliable_mask(features, labels, neighbors=neighbors, **options).sum())

    assert kept(threshold=0, strict=False) == 101
    assert kept(threshold=0, strict=True) == 100
    assert kept(threshold=1, strict=False) == 1
    assert kept(threshold=1, strict=True) == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("include_self", [False, True])
@given(features=feature_sets(min_size=3), data=st.data())
def test_mask_from_features_equals_the_oracle(include_self, metric, features, data):
    size = len(features)
    k = data.draw(st.integers(1, size - 1 + include_self))
    threshold = data.draw(st.integers(0, k)) / k
    labels = random_labels(data.draw(seeds), size, num_classes=2)
    graph, _ = oracles.nearest_neighbors(features, k, metric=metric, include_self=include_self)
    mask = reliable_mask(
        features, labels, k=k, threshold=threshold, metric=metric, include_self=include_self
    )
    expected = oracles.reliable_before_balance(labels.tolist(), graph, threshold=threshold)
    assert mask.tolist() == expected


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_head_and_tie(dtype, heads, ties):
    features = gaussian(0, 80, 5, dtype=dtype)
    if ties:
        features = features[torch.arange(80) * 7 % 6]
    labels = random_labels(1, *heads, 80, num_classes=2)
    together = reliable_mask(features, labels, k=15, threshold=0.4)
    assert together.shape == (*heads, 80)
    graph, _ = oracles.nearest_neighbors(features.double(), 15)
    for position in positions(heads):
        expected = oracles.reliable_before_balance(labels[position].tolist(), graph, threshold=0.4)
        assert together[position].tolist() == expected
        apart = reliable_mask(features, labels[position], k=15, threshold=0.4)
        assert torch.equal(apart, together[position])


def test_the_sample_itself_has_no_vote_unless_it_is_asked():
    features, labels = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0, 1, 2])
    options = {"k": 2, "metric": "euclidean", "threshold": 0.5, "strict": False}
    assert not reliable_mask(features, labels, **options).any()
    assert reliable_mask(features, labels, include_self=True, **options).all()


def test_the_sample_itself_votes_among_any_number_of_copies():
    features, labels = torch.ones(40, 3), torch.arange(40)
    mask = reliable_mask(features, labels, k=4, threshold=0.25, strict=False, include_self=True)
    assert mask.all()


def test_among_copies_of_one_label_every_vote_is_possible():
    """Their candidates are too many to be listed, and the bounds on the votes are all there is."""
    rows, labels = torch.ones(400, 4), torch.zeros(400, dtype=torch.int64)
    for include_self in (False, True):
        assert reliable_mask(rows, labels, k=5, include_self=include_self).all()
    labels[:200] = -1  # the first, who are everybody's neighbours
    assert not reliable_mask(rows, labels, k=5, threshold=0.0).any()


def test_a_graph_serves_every_sweep():
    features, labels = gaussian(0, 60, 4), random_labels(0, 60, low=0)
    graph = nearest_neighbors(features, 12)
    for percent in (10, 30, 50):
        options = {"threshold": percent / 100}
        expected = reliable_mask(features, labels, k=12, **options)
        for neighbors in (graph, graph.indices):
            actual = reliable_mask(features, labels, neighbors=neighbors, **options)
            assert torch.equal(actual, expected)
    narrow = Neighbors(graph.indices[:, :3], graph.similarity[:, :3])
    assert torch.equal(
        reliable_mask(features, labels, neighbors=narrow, threshold=0.5),
        reliable_mask(features, labels, k=3, threshold=0.5),
    )


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_backends_agree(backend):
    if backend == "faiss":
        pytest.importorskip("faiss")
    features, labels = gaussian(0, 70, 4)[torch.arange(70) % 9], random_labels(0, 70)
    options = {"k": 20, "threshold": 0.3}
    expected = reliable_mask(features, labels, **options)
    assert torch.equal(reliable_mask(features, labels, backend=backend, **options), expected)


def test_arrays_memory_maps_and_unchanged_inputs(tmp_path):
    features, labels = gaussian(0, 50, 4).numpy(), random_labels(0, 50).numpy()
    np.save(tmp_path / "rows.npy", features)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    before = features.copy(), labels.copy()
    expected = reliable_mask(
        torch.from_numpy(features), torch.from_numpy(labels), k=9, threshold=0.3
    )
    assert torch.equal(reliable_mask(features, labels, k=9, threshold=0.3), expected)
    assert torch.equal(reliable_mask(mapped, labels, k=9, threshold=0.3), expected)
    result = reliable_labels(mapped, labels, k=9, threshold=0.3)
    assert isinstance(result.labels, torch.Tensor)
    assert torch.equal(result.mask, expected)
    assert np.array_equal(features, before[0])
    assert np.array_equal(labels, before[1])


def test_permuting_samples_permutes_the_mask():
    features, labels, order = gaussian(0, 40, 3), random_labels(1, 40), torch.randperm(40)
    mask = reliable_mask(features, labels, k=7, threshold=0.4)
    assert 0 < mask.sum() < 40
    permuted = reliable_mask(features[order], labels[order], k=7, threshold=0.4)
    assert torch.equal(permuted, mask[order])


# Reliable labels ---------------------------------------------------------------------------------


@given(graph=graphs(), strict=st.booleans(), percent=st.integers(0, 100), data=st.data())
def test_labels_equal_the_oracle(graph, strict, percent, data):
    labels, neighbors = graph
    num_classes = max(int(labels.max()) + 1, 1) + data.draw(st.integers(0, 2))
    rng = np.random.default_rng(data.draw(seeds))
    probs = torch.from_numpy(rng.integers(0, 5, (len(labels), num_classes)) / 4)
    min_confidence = data.draw(st.sampled_from([None, 0, 0.25, 0.5, 0.75]))
    options = {"threshold": percent / 100, "strict": strict}
    with_probs = {"probs": probs, "min_confidence": min_confidence}
    expected = oracles.reliable_before_balance(
        labels.tolist(), neighbors.tolist(), **options, **with_probs
    )
    result = reliable_labels(
        torch.zeros(len(labels), 1), labels, neighbors=neighbors, **options, **with_probs
    )
    assert result.mask.tolist() == expected
    assert result.labels.tolist() == [
        y if keep else -1 for y, keep in zip(labels.tolist(), expected, strict=True)
    ]
    assert torch.equal(result.ratio, reliability_ratio(labels, neighbors))
    assert torch.equal(result.given, labels)
    assert (result.threshold, result.strict) == (percent / 100, strict)
    assert result.num_classes == num_classes


def test_without_options_the_mask_is_reliable_mask():
    features, labels = gaussian(0, 60, 4), random_labels(0, 60)
    for options in ({"k": 9, "threshold": 0.4}, {"k": 20, "threshold": 0.3, "strict": False}):
        result = reliable_labels(features, labels, **options)
        assert torch.equal(result.mask, reliable_mask(features, labels, **options))
        assert torch.equal(result.labels, torch.where(result.mask, labels, -1))


def test_classes_are_counted_by_the_probabilities_or_the_largest_label():
    features, labels = gaussian(0, 6, 2), torch.tensor([0, 2, 0, -1, 2, 0])
    assert reliable_labels(features, labels, k=2).num_classes == 3
    wide = reliable_labels(features, labels, k=2, probs=torch.full((6, 5), 0.2))
    assert wide.num_classes == 5
    nobody = reliable_labels(features, torch.full((6,), -1), k=2)
    assert nobody.num_classes == 0
    assert nobody.labels.tolist() == [-1] * 6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_confidence_must_be_strictly_above(dtype):
    labels = torch.zeros(3, dtype=torch.int64)
    probs = torch.tensor([[0.5, 0.25], [0.75, 0.0], [0.0, 1.0]], dtype=dtype)
    result = reliable_labels(
        torch.zeros(3, 1),
        labels,
        threshold=0.5,
        neighbors=torch.tensor([[1], [0], [0]]),
        probs=probs,
        min_confidence=0.5,
    )
    assert result.mask.tolist() == [False, True, True]  # the largest, not the label's own


def test_a_float32_confidence_of_0_99_is_not_above_0_99():
    result = reliable_labels(
        torch.zeros(2, 1),
        torch.zeros(2, dtype=torch.int64),
        threshold=0.5,
        neighbors=torch.tensor([[1], [0]]),
        probs=torch.tensor([[0.99], [0.991]]),
        min_confidence=0.99,
    )
    assert result.mask.tolist() == [False, True]


def test_a_float32_min_confidence_is_read_as_a_decimal():
    result = reliable_labels(
        torch.zeros(2, 1),
        torch.zeros(2, dtype=torch.int64),
        threshold=0.5,
        neighbors=torch.tensor([[1], [0]]),
        probs=torch.tensor([[0.95], [0.951]], dtype=torch.float64),
        min_confidence=float(np.float32(0.95)),
    )
    assert result.mask.tolist() == [False, True]


@pytest.mark.parametrize(
    ("dtype", "confidence", "limit"),
    [(torch.float64, 0.9 + 1e-12, 0.9), (torch.bfloat16, 0.80078125, 0.8)],
    ids=str,
)
def test_confidence_is_compared_in_no_less_than_float32_and_not_rounded(dtype, confidence, limit):
    result = reliable_labels(
        torch.zeros(2, 1),
        torch.zeros(2, dtype=torch.int64),
        threshold=0.5,
        neighbors=torch.tensor([[1], [0]]),
        probs=torch.tensor([[confidence], [limit]], dtype=dtype),
        min_confidence=limit,
    )
    # The nearest bfloat16 to 0.8 is above 0.8, and so is a float64 by less than float32 can tell.
    assert result.mask.tolist() == [True, dtype == torch.bfloat16]


def separated(sizes):
    """Classes of these sizes on a line, each agreeing with itself alone."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rows = labels.double() * 100 + torch.arange(len(labels)) / 1000
    return rows.view(-1, 1), labels


def test_balance_cuts_every_class_to_the_smallest():
    features, labels = separated([12, 5, 9])
    options = {"k": 3, "threshold": 0.9, "metric": "euclidean"}
    result = reliable_labels(
        features, labels, balance=True, generator=torch.Generator().manual_seed(0), **options
    )
    assert torch.bincount(result.labels[result.mask]).tolist() == [5, 5, 5]
    assert result.mask[12:17].all()
    assert torch.equal(result.labels, torch.where(result.mask, labels, -1))
    unbalanced = reliable_labels(features, labels, **options)
    assert unbalanced.mask.all()
    assert torch.equal(result.ratio, unbalanced.ratio)


def test_balance_draws_by_the_generator():
    features, labels = separated([40, 4])

    def survivors(seed):
        generator = torch.Generator().manual_seed(seed)
        options = {"k": 3, "threshold": 0.9, "metric": "euclidean", "generator": generator}
        return reliable_labels(features, labels, balance=True, **options).mask

    assert torch.equal(survivors(1), survivors(1))
    assert len({tuple(survivors(seed).tolist()) for seed in range(20)}) > 10
    often = sum(survivors(seed).long() for seed in range(200))
    assert often[40:].eq(200).all()
    assert 4 <= often[:40].min() <= often[:40].max() <= 45  # about 20 each


def test_balance_without_a_generator_follows_the_global_seed():
    features, labels = separated([40, 4])
    options = {"k": 3, "threshold": 0.9, "metric": "euclidean", "balance": True}
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(reliable_labels(features, labels, **options).mask)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_nothing_is_drawn_without_balance():
    features, labels = separated([8, 4])
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state(), torch.get_rng_state()
    reliable_labels(features, labels, k=3, generator=generator)
    assert torch.equal(generator.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@given(graph=graphs(), percent=st.integers(0, 100), seed=seeds)
def test_balance_keeps_an_equal_share_of_the_survivors(graph, percent, seed):
    labels, neighbors = graph
    features, options = torch.zeros(len(labels), 1), {"threshold": percent / 100}
    free = reliable_labels(features, labels, neighbors=neighbors, **options)
    generator = torch.Generator().manual_seed(seed)
    cut = reliable_labels(
        features, labels, neighbors=neighbors, balance=True, generator=generator, **options
    )
    size = oracles.balanced_size(labels.tolist(), free.mask.tolist(), free.num_classes)
    assert not (cut.mask & ~free.mask).any()
    assert oracles.class_counts(labels.tolist(), cut.mask.tolist(), cut.num_classes) == (
        [size] * cut.num_classes
    )
    assert torch.equal(cut.mask, cut.labels >= 0)


def test_an_empty_class_empties_all():
    features, labels = separated([6, 6])
    options = {"k": 3, "threshold": 0.9, "metric": "euclidean", "balance": True}
    probs = torch.full((12, 3), 0.5)  # a third class that nobody has
    assert reliable_labels(features, labels, **options).mask.all()
    emptied = reliable_labels(features, labels, probs=probs, **options)
    assert not emptied.mask.any()
    assert emptied.labels.eq(-1).all()


@pytest.mark.parametrize("balance", [False, True])
def test_nobody_labelled_leaves_nobody_reliable(balance):
    nobody = torch.full((5,), -1)
    result = reliable_labels(gaussian(0, 5, 2), nobody, k=2, balance=balance)
    assert result.labels.tolist() == [-1] * 5
    assert not result.mask.any()
    assert result.num_classes == 0
    assert isinstance(str(result.report()), str)


def test_balance_comes_after_the_confidence():
    features, labels = separated([6, 6])
    probs = torch.full((12, 2), 0.999)
    probs[:4] = 0.5
    result = reliable_labels(
        features,
        labels,
        k=3,
        threshold=0.9,
        metric="euclidean",
        probs=probs,
        min_confidence=0.99,
        balance=True,
    )
    assert result.mask[:6].tolist() == [False] * 4 + [True] * 2
    assert result.mask[6:].sum() == 2


def test_spices_published_code():
    """`>=`, the sample itself counted, confidence above 0.99, cut to the smallest class."""
    features, labels = separated([8, 5])
    labels[0] = 1  # one stray label: its own vote is 1 of 4, its neighbours lose a vote
    probs = torch.nn.functional.one_hot(labels, 2) * 0.995
    probs[-1] = 0.5
    result = reliable_labels(
        features,
        labels,
        k=4,
        threshold=0.75,
        metric="euclidean",
        strict=False,
        include_self=True,
        probs=probs,
        min_confidence=0.99,
        balance=True,
    )
    graph, _ = oracles.nearest_neighbors(features, 4, metric="euclidean", include_self=True)
    kept = oracles.reliable_before_balance(
        labels.tolist(), graph, threshold=0.75, strict=False, probs=probs.tolist(),
        min_confidence=0.99,
    )  # fmt: skip
    size = oracles.balanced_size(labels.tolist(), kept, 2)
    assert size == 4
    assert oracles.class_counts(labels.tolist(), result.mask.tolist(), 2) == [size, size]
    assert not (result.mask & ~torch.tensor(kept)).any()


# The report --------------------------------------------------------------------------------------


def three_neighbour_graph():
    """Class 0 agrees fully, class 1 at best in 2 of 3, class 2 never, class 3 has no sample."""
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, -1])
    neighbors = [
        [1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 8],
        [5, 6, 8], [4, 0, 1], [0, 1, 2],
        [0, 1, 2], [0, 1, 2],
    ]  # fmt: skip
    return labels, torch.tensor(neighbors)


def three_neighbour_report(**options):
    labels, neighbors = three_neighbour_graph()
    probs = torch.full((9, 4), 0.25)
    result = reliable_labels(torch.zeros(9, 1), labels, neighbors=neighbors, probs=probs, **options)
    return result, result.report()


def test_report_counts_class_by_class():
    result, report = three_neighbour_report(threshold=0.9)
    assert result.mask.nonzero().flatten().tolist() == [0, 1, 2]
    assert report.samples.tolist() == [4, 3, 1, 0]
    assert report.reliable.tolist() == [3, 0, 0, 0]
    assert report.best_ratio[:3].tolist() == [1, 2 / 3, 0]
    assert report.best_ratio[3].isnan()
    assert report.median_ratio[:3].tolist() == [1, 1 / 3, 0]
    assert [bool(reason) for reason in report.reasons] == [False, True, True, True]


def test_report_prints_one_line_for_every_class_and_names_the_empty_ones():
    _, report = three_neighbour_report(threshold=0.9)
    lines = str(report).splitlines()
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["0", "4", "3"],
        ["1", "3", "0"],
        ["2", "1", "0"],
        ["3", "0", "0"],
    ]
    assert [line.split(":")[0] for line in lines[5:]] == ["class 1", "class 2", "class 3"]


@pytest.mark.parametrize("strict", [True, False])
def test_report_names_a_threshold_that_would_keep_somebody(strict):
    _, report = three_neighbour_report(threshold=0.9, strict=strict)
    named = float(re.findall(r"\d\.\d+", report.reasons[1])[-1])
    assert named == pytest.approx(2 / 3, abs=1e-3)
    below = named - 1e-5 if strict else named
    kept, lower = three_neighbour_report(threshold=below, strict=strict)
    assert lower.reliable[1] == 1, report.reasons[1]
    assert kept.mask[4]


@pytest.mark.parametrize("agreeing", [57, 58, 69])
def test_report_names_the_ratio_itself_where_it_is_short(agreeing):
    labels = torch.tensor([0] + [0] * agreeing + [1] * (100 - agreeing))
    graph = torch.arange(1, 101).expand(101, -1)
    result = reliable_labels(torch.zeros(101, 1), labels, neighbors=graph, threshold=0.9)
    reason = result.report().reasons[0]
    assert f"has ratio 0.{agreeing}, not above 0.9; a threshold below 0.{agreeing} keeps" in reason


def test_report_blames_the_empty_class_for_what_balance_removed():
    result, report = three_neighbour_report(threshold=0.9, balance=True)
    assert not result.mask.any()
    assert report.samples.tolist() == [4, 3, 1, 0]
    assert report.reliable.tolist() == [0, 0, 0, 0]
    assert "balance" in report.reasons[0]
    assert "class 1" in report.reasons[0]


def test_report_blames_the_confidence():
    result, report = three_neighbour_report(threshold=0.5, min_confidence=0.5)
    assert not result.mask.any()
    assert "min_confidence" in report.reasons[0]
    assert "min_confidence" in report.reasons[1]


@given(graph=graphs(), percent=st.integers(0, 100))
def test_report_adds_up(graph, percent):
    labels, neighbors = graph
    result = reliable_labels(
        torch.zeros(len(labels), 1), labels, neighbors=neighbors, threshold=percent / 100
    )
    report, classes = result.report(), range(result.num_classes)
    given, kept = labels.tolist(), result.mask.tolist()
    everybody = [True] * len(given)
    assert report.samples.tolist() == oracles.class_counts(given, everybody, len(classes))
    assert report.reliable.tolist() == oracles.class_counts(given, kept, len(classes))
    for c in classes:
        ratios = sorted(result.ratio[labels == c].tolist())
        if ratios:
            assert report.best_ratio[c] == ratios[-1]
            assert report.median_ratio[c] == ratios[(len(ratios) - 1) // 2]
        assert bool(report.reasons[c]) == (report.reliable[c] == 0)


def test_an_index_of_minus_one_is_no_neighbour_of_anybody():
    """The last row must never stand in for a missing one: such a graph is refused."""
    with pytest.raises(ValueError, match="neighbors"):
        reliability_ratio(torch.tensor([0, 0]), torch.tensor([[1], [-1]]))


def test_results_stay_on_the_device(device):
    features, labels = gaussian(0, 40, 4), random_labels(0, 40)
    result = reliable_labels(features.to(device), labels.to(device), k=6, threshold=0.3)
    assert {t.device.type for t in (result.labels, result.mask, result.ratio)} == {device.type}
    expected = reliable_mask(features, labels, k=6, threshold=0.3)
    assert torch.equal(result.mask.cpu(), expected)


def test_array_labels_of_any_integer_width_are_taken():
    features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]], dtype=np.float32)
    for dtype in (np.int8, np.int32, np.int64, np.uint8):  # KMeans.labels_ is int32
        mask = reliable_mask(features, np.array([0, 0, 1, 1], dtype=dtype), k=1)
        assert mask.tolist() == [True] * 4


def test_labels_beyond_int64_are_refused():
    graph = torch.tensor([[1], [0]])
    with pytest.raises(ValueError, match=r"^labels: expected integers below 2\*\*63, got 18446744"):
        reliability_ratio(np.array([0, 2**64 - 1], dtype=np.uint64), graph)
    ratio = reliability_ratio(np.array([2**63 - 1] * 2, dtype=np.uint64), graph)
    assert ratio.tolist() == [1.0, 1.0]
