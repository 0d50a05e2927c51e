"""Double softmax cross-entropy: the analytic values and the gradient formula."""

import math

import oracles_losses as oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import gaussian, seeds
from torch.testing import assert_close

from pseudolabel import double_softmax_cross_entropy

CLASSES = (2, 10, 15, 20, 200)
E = math.e


def sure_of(label, classes, logit=1e3):
    """Logits whose softmax is one-hot."""
    row = torch.zeros(1, classes, dtype=torch.float64)
    row[0, label] = logit
    return row


@pytest.mark.parametrize("classes", CLASSES)
def test_floor_is_reached_by_a_sure_and_right_prediction(classes):
    loss = double_softmax_cross_entropy(sure_of(1, classes), torch.tensor([1]))
    assert loss.item() == pytest.approx(math.log(1 + (classes - 1) / E), rel=1e-12)


@pytest.mark.parametrize("classes", CLASSES)
def test_ceiling_is_reached_by_a_sure_and_wrong_prediction(classes):
    loss = double_softmax_cross_entropy(sure_of(0, classes), torch.tensor([1]))
    assert loss.item() == pytest.approx(math.log(E + classes - 1), rel=1e-12)


@pytest.mark.parametrize("classes", CLASSES)
def test_uniform_prediction_costs_log_k(classes):
    loss = double_softmax_cross_entropy(
        torch.full((1, classes), 3.0, dtype=torch.float64), torch.tensor([0])
    )
    assert loss.item() == pytest.approx(math.log(classes), rel=1e-12)


@pytest.mark.parametrize(
    ("classes", "floor", "ceiling"),
    [(10, 1.461, 2.461), (15, 1.817, 2.817), (20, 2.078, 3.078), (200, 4.307, 5.307)],
)
def test_published_values(classes, floor, ceiling):
    labels = torch.tensor([0])
    right = double_softmax_cross_entropy(sure_of(0, classes), labels)
    wrong = double_softmax_cross_entropy(sure_of(1, classes), labels)
    assert right.item() == pytest.approx(floor, abs=5e-4)
    assert wrong.item() == pytest.approx(ceiling, abs=5e-4)


@given(seeds, st.sampled_from(CLASSES), st.sampled_from([0.1, 3.0, 100.0]))
def test_loss_lies_between_floor_and_ceiling(seed, classes, scale):
    logits = scale * gaussian(seed, 6, classes)
    labels = torch.arange(6) % classes
    loss = double_softmax_cross_entropy(logits, labels, reduction="none")
    assert (loss >= math.log(1 + (classes - 1) / E) - 1e-12).all()
    assert (loss <= math.log(E + classes - 1) + 1e-12).all()


@given(seeds, st.sampled_from(CLASSES))
def test_gradient_follows_the_formula(seed, classes):
    logits = (3 * gaussian(seed, 4, classes)).requires_grad_()
    labels = torch.tensor([0, 1, classes - 1, -1])
    double_softmax_cross_entropy(logits, labels, reduction="sum").backward()
    expected = [
        oracle.double_softmax_gradient(row, label) if label >= 0 else [0.0] * classes
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    assert_close(logits.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)


def test_gradient_vanishes_where_the_prediction_is_sure_and_wrong():
    # Ten classes, p_wrong = 0.9996: a single softmax pulls with 2, the double one with 2e-4.
    logits = sure_of(0, 10, math.log(9 * 0.9996 / 0.0004)).requires_grad_()
    label = torch.tensor([1])
    (double,) = torch.autograd.grad(double_softmax_cross_entropy(logits, label), logits)
    (single,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, label), logits)
    assert single.abs().sum().item() == pytest.approx(2.0, abs=1e-3)
    assert double.abs().sum().item() == pytest.approx(2e-4, rel=0.2)
    assert double[0, 1] < 0


@given(seeds, st.integers(-50, 50))
def test_a_constant_added_to_a_row_changes_nothing(seed, shift):
    logits = gaussian(seed, 5, 4)
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert_close(
        double_softmax_cross_entropy(logits + shift, labels),
        double_softmax_cross_entropy(logits, labels),
        rtol=1e-12,
        atol=1e-12,
    )


def test_it_is_cross_entropy_of_the_probabilities():
    logits = gaussian(0, 8, 5)
    labels = torch.tensor([0, 1, 2, 3, 4, -1, 2, 0])
    expected = torch.nn.functional.cross_entropy(logits.softmax(-1), labels, ignore_index=-1)
    assert_close(double_softmax_cross_entropy(logits, labels), expected, rtol=1e-12, atol=0)
