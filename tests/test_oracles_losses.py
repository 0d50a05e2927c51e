"""The references themselves, on cases worked by hand or by scikit-learn."""

import math

import oracles_losses as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

E = math.e


def test_softmax_of_logs_is_the_normalised_row():
    assert oracle.softmax([math.log(1), math.log(3)]) == pytest.approx([0.25, 0.75])


def test_softmax_survives_huge_logits():
    assert oracle.softmax([1e4, -1e4]) == [1.0, 0.0]


def test_log_sum_exp_of_equal_values_adds_the_log_of_their_number():
    assert oracle.log_sum_exp([1e4] * 4) == pytest.approx(1e4 + math.log(4))


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ([3.0, 4.0], [6.0, 8.0], 1.0),
        ([1.0, 0.0], [0.0, 2.0], 0.0),
        ([1.0, 0.0], [1.0, 1.0], 2**-0.5),
        ([1.0, 0.0], [-5.0, 0.0], -1.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
    ],
)
def test_cosine(a, b, value):
    assert oracle.cosine(a, b) == pytest.approx(value)


def test_double_softmax_of_a_uniform_row_is_log_k():
    assert oracle.double_softmax_cross_entropy([[7.0] * 10], [3]) == pytest.approx([math.log(10)])


def test_double_softmax_worked_by_hand():
    # softmax(log 1, log 3) = (1/4, 3/4); the loss of class 0 is log(1 + e^(1/2)).
    loss = oracle.double_softmax_cross_entropy([[0.0, math.log(3)]] * 2, [0, -1])
    assert loss == pytest.approx([math.log(1 + E**0.5), 0.0])


def test_double_softmax_gradient_is_the_slope_of_the_double_softmax():
    row, label, step = [0.3, -1.2, 2.0, 0.1], 1, 1e-6
    for j, slope in enumerate(oracle.double_softmax_gradient(row, label)):
        above, below = ([*row[:j], row[j] + sign * step, *row[j + 1 :]] for sign in (1, -1))
        high, low = oracle.double_softmax_cross_entropy([above, below], [label, label])
        assert slope == pytest.approx((high - low) / (2 * step), abs=1e-8)


def test_soft_contrastive_worked_by_hand():
    # Anchors (1, 0) and (0, 1), tau = 0.5: attraction 2, one repulsion of 0.
    z = [[1.0, 0.0], [0.0, 1.0]]
    assert oracle.soft_contrastive_loss(z, [0, 1]) == pytest.approx([-2.0, -2.0])
    with_positive = oracle.soft_contrastive_loss(z, [0, 1], include_positive=True)
    assert with_positive == pytest.approx([-2 + math.log(1 + E**2)] * 2)
    scaled = oracle.soft_contrastive_loss(z, [0, 1], [0.5, 0.0], include_positive=True)
    assert scaled == pytest.approx([-1 + math.log(1 + E), math.log(2)])
    weighted = oracle.soft_contrastive_loss(z, [0, 1], [0.5, 0.0], confidence_mode="weight")
    assert weighted == pytest.approx([-1.0, 0.0])
    smooth = oracle.soft_contrastive_loss(z, [0, 1], [0.0, 1.0], confidence_mode="smooth")
    assert smooth == pytest.approx([-2 * 2**-0.5, -2.0])
    literal = oracle.soft_contrastive_loss(z, [0, 1], [0.5, 0.0], confidence_mode="literal")
    assert literal == pytest.approx([-2.0, -2.0])


def test_soft_contrastive_negatives_worked_by_hand():
    # The third row copies the first under another label; the fourth is unlabelled.
    z = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    labels = [0, 1, 1, -1]
    two = -2 + math.log(1 + E**2)  # anchor 0 against rows 1 and 2
    one = math.log(E**2)  # anchor 2, of label 1, attracted by 0 and repelled by row 0
    assert oracle.soft_contrastive_loss(z, labels) == pytest.approx([two, -2.0, one, 0.0])
    apart = oracle.soft_contrastive_loss(z, labels, sample_ids=[5, 6, 5, 5])
    assert apart == pytest.approx([-2.0, -2.0, 0.0, 0.0])
    alone = oracle.soft_contrastive_loss(z, labels, negatives=False, include_positive=True)
    assert alone == pytest.approx([-2.0, -2.0, 0.0, 0.0])


def test_consistency_worked_by_hand():
    rows = [[0.0, math.log(3)]] * 3
    loss = oracle.consistency_loss(rows, [0, 1, -1], [0.5, 1.0, 1.0])
    assert loss == pytest.approx([0.5 * math.log(4), math.log(4 / 3), 0.0])
    assert oracle.reduced(loss, [True, True, False], "mean") == pytest.approx(math.fsum(loss) / 2)
    whole = oracle.reduced(loss, [True, True, False], "mean", whole_batch=True)
    assert whole == pytest.approx(math.fsum(loss) / 3)


def test_entropy_worked_by_hand():
    assert oracle.entropy_regularizer([[1.0, 0.0], [0.0, 1.0]]) == pytest.approx(-math.log(2))
    assert oracle.entropy_regularizer([[1.0, 0.0], [1.0, 0.0]]) == 0.0
    assert oracle.entropy_regularizer([]) == 0.0


def test_fixed_threshold_worked_by_hand():
    probs = [[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]
    assert oracle.fixed_threshold(probs, 0.8) == ([0, 1, 0], [False, True, True])
    assert oracle.fixed_threshold(probs, 0.8, strict=True) == ([0, 1, 0], [False, False, True])


def test_free_match_worked_by_hand():
    rule = oracle.SelfAdaptiveThreshold(2, momentum=0.5)
    targets, kept = rule([[0.9, 0.1], [0.3, 0.7]], training=True)
    assert rule.mean_confidence == pytest.approx((0.5 + 0.8) / 2)
    assert rule.mean_probs == pytest.approx([(0.5 + 0.6) / 2, (0.5 + 0.4) / 2])
    assert rule.thresholds == pytest.approx([0.65, 0.65 * 0.45 / 0.55])
    assert (targets, kept) == ([0, 1], [True, True])
    rule([], training=True)
    assert rule.mean_confidence == pytest.approx(0.65)
    rule([[1.0, 0.0]], training=False)
    assert rule.mean_confidence == pytest.approx(0.65)


def test_clustering_accuracy_worked_by_hand():
    assert oracle.clustering_accuracy([1, 1, 0, 0], [0, 0, 1, 1]) == 1.0
    assert oracle.clustering_accuracy([0, 0, 0, 0], [0, 0, 1, 1]) == 0.5
    assert oracle.clustering_accuracy([0, 1, 2, 3], [0, 0, 1, 1]) == 0.5
    assert oracle.clustering_accuracy([-1, -1, 0, 1], [0, 0, 1, -1]) == pytest.approx(1 / 3)
    assert oracle.clustering_accuracy([0, 1], [-1, -1]) == 0.0


LABELS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n)] * 2)
)


@given(LABELS)
def test_information_and_rand_agree_with_scikit_learn(labels):
    predicted, target = labels
    information = normalized_mutual_info_score(target, predicted)
    assert oracle.normalized_mutual_info(predicted, target) == pytest.approx(information, abs=1e-12)
    rand = adjusted_rand_score(target, predicted)
    assert oracle.adjusted_rand_index(predicted, target) == pytest.approx(rand, abs=1e-12)
