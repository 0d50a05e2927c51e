"""Clustering metrics against brute force and scikit-learn."""

import numpy as np
import oracles_losses as oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pseudolabel import (
    adjusted_rand_index,
    balanced_clustering_accuracy,
    clustering_accuracy,
    normalized_mutual_info,
)

METRICS = [
    (clustering_accuracy, oracle.clustering_accuracy),
    (balanced_clustering_accuracy, oracle.balanced_clustering_accuracy),
    (normalized_mutual_info, oracle.normalized_mutual_info),
    (adjusted_rand_index, oracle.adjusted_rand_index),
]

every_metric = pytest.mark.parametrize(
    ("metric", "reference"),
    METRICS,
    ids=lambda f: None if f.__module__[:6] == "oracle" else f.__name__,
)


@st.composite
def labelings(draw, low=-1, max_size=14):
    """Predictions and targets of one length, of any two numbers of clusters up to 5 and 4."""
    size = draw(st.integers(0, max_size))
    predicted = st.integers(low, draw(st.integers(0, 4)))
    target = st.integers(low, draw(st.integers(0, 3)))
    return (
        draw(st.lists(predicted, min_size=size, max_size=size)),
        draw(st.lists(target, min_size=size, max_size=size)),
    )


def score(metric, labels, of=torch.tensor):
    """The metric of two lists."""
    predicted, target = labels
    if of is torch.tensor:
        return metric(torch.tensor(predicted, dtype=int), torch.tensor(target, dtype=int))
    return metric(np.array(predicted, dtype=int), np.array(target, dtype=int))


@every_metric
@given(labelings())
def test_metric_equals_the_reference(metric, reference, labels):
    value = score(metric, labels)
    assert type(value) is float
    assert value == pytest.approx(reference(*labels), abs=1e-12)


@given(labelings(low=0).filter(lambda labels: labels[0]))
def test_information_and_rand_equal_scikit_learn(labels):
    predicted, target = labels
    information = normalized_mutual_info_score(target, predicted)
    assert score(normalized_mutual_info, labels) == pytest.approx(information, abs=1e-12)
    rand = adjusted_rand_score(target, predicted)
    assert score(adjusted_rand_index, labels) == pytest.approx(rand, abs=1e-12)


@every_metric
@given(labelings())
def test_arrays_and_tensors_give_the_same(metric, reference, labels):
    assert score(metric, labels, np.array) == score(metric, labels)
    mixed = metric(np.array(labels[0], dtype=int), torch.tensor(labels[1], dtype=int))
    assert mixed == score(metric, labels)


@every_metric
@given(labelings(), st.data())
def test_the_order_of_the_samples_does_not_matter(metric, reference, labels, data):
    order = data.draw(st.permutations(range(len(labels[0]))))
    shuffled = [[side[i] for i in order] for side in labels]
    assert score(metric, shuffled) == pytest.approx(score(metric, labels), abs=1e-12)


@every_metric
@given(labelings(), st.permutations(range(5)), st.permutations(range(4)))
def test_the_names_of_the_clusters_do_not_matter(metric, reference, labels, ours, theirs):
    predicted = [p if p == -1 else ours[p] for p in labels[0]]
    target = [t if t == -1 else theirs[t] for t in labels[1]]
    assert score(metric, (predicted, target)) == pytest.approx(score(metric, labels), abs=1e-12)


@every_metric
@given(labelings(low=0))
def test_huge_names_cost_nothing(metric, reference, labels):
    huge = [[10**12 + 7 * label for label in side] for side in labels]
    assert score(metric, huge) == pytest.approx(score(metric, labels), abs=1e-12)


@every_metric
@given(labelings())
def test_unknown_targets_are_left_out(metric, reference, labels):
    kept = [(p, t) for p, t in zip(*labels, strict=True) if t != -1]
    alone = [list(side) for side in zip(*kept, strict=True)] or [[], []]
    assert score(metric, labels) == score(metric, alone)


@given(labelings(low=0), st.integers(1, 4))
def test_predictions_of_minus_one_are_wrong(labels, wrong):
    predicted, target = labels
    right = score(clustering_accuracy, labels) * len(target)
    longer = (predicted + [-1] * wrong, target + [0] * wrong)
    expected = right / (len(target) + wrong)
    assert score(clustering_accuracy, longer) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", [normalized_mutual_info, adjusted_rand_index])
@given(labelings())
def test_predictions_of_minus_one_are_each_alone(metric, labels):
    named = [100 + i if p == -1 else p for i, p in enumerate(labels[0])]
    nothing = all(p == -1 or t == -1 for p, t in zip(*labels, strict=True))
    expected = 0.0 if nothing else score(metric, (named, labels[1]))
    assert score(metric, labels) == pytest.approx(expected, abs=1e-12)


@every_metric
def test_predictions_of_minus_one_count_as_wrong(metric, reference):
    assert score(metric, ([0, 0, -1, -1], [0, 0, 1, 1])) < 1
    assert score(metric, ([-1, -1], [0, 0])) == score(metric, ([-1, -1], [0, 1])) == 0


@every_metric
@pytest.mark.parametrize("labels", [([], []), ([0, 1], [-1, -1]), ([-1, -1], [-1, -1])])
def test_no_target_left_is_zero(metric, reference, labels):
    assert score(metric, labels) == 0.0


@every_metric
@given(st.lists(st.integers(0, 4), min_size=1, max_size=14))
def test_a_renamed_copy_is_perfect(metric, reference, target):
    renamed = [(3 * label + 2) % 5 for label in target]
    assert score(metric, (renamed, target)) == pytest.approx(1.0, abs=1e-12)


@every_metric
@given(labelings())
def test_metrics_are_bounded(metric, reference, labels):
    low = -1.0 if metric is adjusted_rand_index else 0.0
    assert low <= score(metric, labels) <= 1.0


@pytest.mark.parametrize("metric", [normalized_mutual_info, adjusted_rand_index])
@given(labelings(low=0))
def test_information_and_rand_are_symmetric(metric, labels):
    assert score(metric, labels[::-1]) == pytest.approx(score(metric, labels), abs=1e-12)


@pytest.mark.parametrize(
    ("predicted", "target", "accuracy"),
    [
        ([0, 1, 2, 3], [0, 0, 1, 1], 0.5),
        ([0, 0, 0, 0], [0, 1, 2, 3], 0.25),
        ([0, 0, 1, 2, 2, 2], [0, 0, 0, 1, 1, 1], 5 / 6),
        ([0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 2, 2], 5 / 6),
        # The largest cell (0, 0) is not part of the best matching.
        ([0] * 5 + [1] * 4, [0] * 3 + [1] * 2 + [0] * 4, 6 / 9),
        # Two small classes found as a whole do not make up for a right answer less (7 + 2, not 8).
        ([0] * 10 + [1] * 8 + [2] * 4, [0] * 7 + [1] * 3 + [0] * 5 + [1, 1, 2] + [0] * 4, 9 / 22),
    ],
)
def test_unequal_numbers_of_clusters_worked_by_hand(predicted, target, accuracy):
    assert score(clustering_accuracy, (predicted, target)) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("predicted", "target", "accuracy"),
    [
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 2], 1 / 3),
        ([0, 0, 0, 1, 0, 2], [0, 0, 0, 0, 1, 2], (3 / 4 + 0 + 1) / 3),
        ([0, 0, -1, 1, 1], [0, 0, 0, 1, -1], (2 / 3 + 1) / 2),
        # A cluster is named after most of its samples, though it has all there is of class 1.
        ([0] * 4 + [-1] * 4, [0] * 3 + [1] + [0] * 4, 3 / 7 / 2),
        # Either name gives two right answers; that of the smaller class has the larger recall.
        ([0] * 4 + [-1] * 2, [1, 1, 0, 0, 0, 0], 1 / 2),
    ],
)
def test_balanced_accuracy_worked_by_hand(predicted, target, accuracy):
    assert score(balanced_clustering_accuracy, (predicted, target)) == pytest.approx(accuracy)


@given(st.lists(st.integers(-1, 4), min_size=12, max_size=12), st.permutations([0, 1, 2] * 4))
def test_both_accuracies_are_one_for_classes_of_equal_size(predicted, target):
    plain = score(clustering_accuracy, (predicted, target))
    balanced = score(balanced_clustering_accuracy, (predicted, target))
    assert balanced == pytest.approx(plain, abs=1e-12)


def test_large_samples_do_not_overflow():
    target = np.repeat([0, 1], 200_000)
    assert adjusted_rand_index(target, target) == 1.0
    halves = np.tile([0, 1], 200_000)
    assert adjusted_rand_index(halves, target) == pytest.approx(0.0, abs=1e-5)
    assert normalized_mutual_info(halves, target) == pytest.approx(0.0, abs=1e-9)
    assert clustering_accuracy(halves, target) == 0.5


def test_many_clusters_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 50, 3000)
    predicted = np.where(rng.random(3000) < 0.6, (7 * target + 3) % 50, rng.integers(0, 80, 3000))
    information = normalized_mutual_info_score(target, predicted)
    assert normalized_mutual_info(predicted, target) == pytest.approx(information, rel=1e-10)
    rand = adjusted_rand_score(target, predicted)
    assert adjusted_rand_index(predicted, target) == pytest.approx(rand, rel=1e-10)
    named = clustering_accuracy(predicted, target)
    assert named == pytest.approx((predicted == (7 * target + 3) % 50).mean(), abs=0.01)


@every_metric
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.int64])
def test_integers_of_any_width(metric, reference, dtype):
    predicted, target = [0, 0, 1, 2, 2, 1], [1, 1, 0, 0, 2, 2]
    value = metric(np.array(predicted, dtype), np.array(target, dtype))
    assert value == pytest.approx(reference(predicted, target), abs=1e-12)
