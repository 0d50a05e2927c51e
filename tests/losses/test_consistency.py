"""The consistency loss and the entropy regulariser."""

import math

import oracles_losses as oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, HEADS, gaussian, probabilities, seeds
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

import pseudolabel as pl
from pseudolabel import consistency_loss, entropy_regularizer

TIGHT = {"rtol": 1e-10, "atol": 1e-12}


# --- consistency ---------------------------------------------------------------------------------


def test_without_weights_it_is_cross_entropy():
    logits, targets = gaussian(0, 6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    assert_close(consistency_loss(logits, targets), cross_entropy(logits, targets), **TIGHT)


@given(seeds)
def test_weights_of_one_change_nothing(seed):
    logits, targets = gaussian(seed, 6, 4), torch.tensor([0, 1, -1, 3, 0, 1])
    ones = torch.ones(6, dtype=torch.float64)
    assert_close(
        consistency_loss(logits, targets, ones), consistency_loss(logits, targets), **TIGHT
    )


def test_mean_divides_by_the_whole_batch():
    # Four rows: one counts, one has weight 0, one is ignored, one counts half.
    logits = torch.zeros(4, 2, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.0, 1.0, 0.5], dtype=torch.float64)
    loss = consistency_loss(logits, torch.tensor([0, 1, -1, 1]), weights)
    assert loss.item() == pytest.approx(1.5 * math.log(2) / 4)


def test_the_loss_is_linear_in_the_weights():
    logits, targets = gaussian(1, 5, 3), torch.tensor([0, 1, 2, -1, 0])
    weights = torch.tensor([0.0, 0.5, 1.0, 3.0, 40.0], dtype=torch.float64)
    plain = consistency_loss(logits, targets, reduction="none")
    weighted = consistency_loss(logits, targets, weights, reduction="none")
    assert_close(weighted, weights * plain, **TIGHT)


def test_a_row_of_weight_zero_teaches_nothing():
    logits = gaussian(2, 3, 4).requires_grad_()
    weights = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    consistency_loss(logits, torch.tensor([0, 1, 2]), weights).backward()
    assert logits.grad[1].eq(0).all()
    assert logits.grad[[0, 2]].ne(0).all()


def test_it_takes_the_selection_of_a_threshold_as_it_comes():
    probs = torch.tensor([[0.97, 0.03], [0.6, 0.4], [0.01, 0.99]])
    logits = gaussian(3, 3, 2, dtype=torch.float32)
    loss = consistency_loss(logits, *pl.FixedThreshold(0.95)(probs))
    parts = cross_entropy(logits, torch.tensor([0, 0, 1]), reduction="none")
    assert_close(loss, (parts[0] + parts[2]) / 3)


# --- entropy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", HEADS)
@given(st.data())
def test_entropy_of_every_head_equals_the_reference(heads, data):
    batch, classes = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 5))
    probs = data.draw(probabilities(batch, classes, heads=heads))
    value = entropy_regularizer(probs)
    expected = [
        oracle.entropy_regularizer(p) for p in probs.view(math.prod(heads), batch, classes).tolist()
    ]
    assert value.shape == heads
    assert_close(value.reshape(-1), torch.tensor(expected, dtype=torch.float64), **TIGHT)


@pytest.mark.parametrize("classes", [1, 2, 10, 200])
def test_entropy_is_minus_log_k_for_a_balanced_batch(classes):
    balanced = torch.eye(classes, dtype=torch.float64)
    assert entropy_regularizer(balanced).item() == pytest.approx(-math.log(classes), rel=1e-12)


def test_entropy_is_zero_for_a_batch_in_one_class():
    one_hot = torch.eye(5, dtype=torch.float64)[[2, 2, 2]]
    assert entropy_regularizer(one_hot).item() == 0


@given(seeds)
def test_entropy_lies_between_its_bounds(seed):
    value = entropy_regularizer((5 * gaussian(seed, 6, 4)).softmax(-1)).item()
    assert -math.log(4) - 1e-12 <= value <= 1e-12


@given(seeds, st.permutations(range(6)), st.permutations(range(4)))
def test_entropy_sees_neither_order_nor_names(seed, rows, columns):
    probs = gaussian(seed, 6, 4).softmax(-1)
    shuffled = probs[list(rows)][:, list(columns)]
    assert_close(entropy_regularizer(shuffled), entropy_regularizer(probs), **TIGHT)


def test_descending_on_the_entropy_spreads_the_mean_prediction():
    logits = torch.tensor([[3.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(entropy_regularizer(logits.softmax(-1)), logits)
    after = (logits - 0.1 * slope).softmax(-1)
    assert after.max() < logits.softmax(-1).max()


def test_entropy_has_the_right_slope():
    probs = gaussian(4, 2, 5, 3).softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(entropy_regularizer, probs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy_in_half_precision(dtype):
    probs = (3 * gaussian(5, 2, 700, 6)).softmax(-1).to(dtype)
    value = entropy_regularizer(probs)
    expected = torch.tensor(
        [oracle.entropy_regularizer(p) for p in probs.tolist()], dtype=torch.float64
    )
    assert value.dtype == dtype
    accuracy = torch.finfo(dtype).eps if dtype.itemsize < 4 else 1e-5
    assert_close(value.double(), expected, rtol=accuracy, atol=1e-6)


@pytest.mark.parametrize("heads", HEADS)
def test_entropy_of_an_empty_batch_is_zero_with_a_live_graph(heads):
    probs = torch.zeros(*heads, 0, 3, requires_grad=True)
    value = entropy_regularizer(probs)
    assert value.shape == heads
    assert value.eq(0).all()
    value.sum().backward()
    assert probs.grad.shape == probs.shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy_of_a_collapsed_head_has_a_finite_gradient(dtype):
    logits = torch.tensor([[1e4, 0.0, -1e4]] * 2).to(dtype).requires_grad_()
    value = entropy_regularizer(logits.softmax(-1))
    value.backward()
    assert value.item() == 0
    assert logits.grad.isfinite().all()


def test_entropy_under_autocast_is_the_same():
    probs = gaussian(6, 3, 8, 4, dtype=torch.float32).softmax(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = entropy_regularizer(probs)
    assert inside.dtype == torch.float32
    assert_close(inside, entropy_regularizer(probs), rtol=1e-6, atol=1e-6)


def test_entropy_compiled_in_one_graph_equals_eager():
    torch.compiler.reset()
    compiled = torch.compile(entropy_regularizer, fullgraph=True, backend="aot_eager")
    for batch in (5, 8):
        probs = gaussian(7, 2, batch, 4, dtype=torch.float32).softmax(-1)
        assert_close(compiled(probs), entropy_regularizer(probs), rtol=1e-6, atol=1e-6)


def test_between_minus_one_and_the_ignored_index_there_is_no_target():
    logits = torch.randn(3, 4)
    targets = torch.tensor([0, -100, -50])
    with pytest.raises(ValueError, match=r"-50"):
        consistency_loss(logits, targets, ignore_index=-100)
    assert consistency_loss(logits[:2], targets[:2], ignore_index=-100).isfinite()


def test_half_precision_losses_are_not_added_in_half_precision():
    logits = torch.zeros(8192, 3, dtype=torch.float16)
    logits[:, 0] = 20
    loss = consistency_loss(logits, torch.ones(8192, dtype=torch.int64))
    assert loss.item() == pytest.approx(20, rel=1e-3)


def test_the_mean_prediction_is_not_rounded_on_the_way():
    ones = torch.ones(70_000, 1, dtype=torch.float16)
    assert entropy_regularizer(ones).item() == 0
    probs = torch.full((3000, 2), 0.3, dtype=torch.bfloat16)
    expected = entropy_regularizer(probs[:1].double())
    assert entropy_regularizer(probs) == expected.to(torch.bfloat16)
