"""RPSC's soft contrastive loss: bounds, ablations, negatives and what each confidence mode does."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import gaussian, seeds
from torch.testing import assert_close

from pseudolabel import soft_contrastive_loss

MODES = ("scale", "weight", "smooth", "literal")
TIGHT = {"rtol": 1e-10, "atol": 1e-12}

every_mode = pytest.mark.parametrize("mode", MODES)


def batch(seed, size=8, classes=4, *heads):
    """Probabilities, labels of every class, confidences."""
    predictions = (2 * gaussian(seed, *heads, size, classes)).softmax(-1)
    labels = (torch.arange(size) % classes).expand(*heads, size)
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(*heads, size, generator=generator, dtype=torch.float64)
    return predictions, labels, confidence


def entries(*args, **options):
    """The loss of every entry."""
    return soft_contrastive_loss(*args, reduction="none", **options)


def cosines_to_own_class(predictions, labels):
    """cos(z_i, onehot of the label of i)."""
    own = predictions.gather(-1, labels[..., None])[..., 0]
    return own / predictions.norm(dim=-1)


# --- analytic values -----------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_orthogonal_one_hots_reach_the_lower_bound(tau, classes):
    labels = torch.arange(3 * classes) % classes
    predictions = torch.nn.functional.one_hot(labels, classes).double()
    loss = entries(predictions, labels, temperature=tau)
    negatives = 3 * (classes - 1)
    assert_close(loss, torch.full_like(loss, -1 / tau + math.log(negatives)), **TIGHT)


def test_bound_of_a_batch_of_128_in_ten_classes_is_about_2_75():
    labels = torch.arange(128) % 10
    predictions = torch.nn.functional.one_hot(labels, 10).double()
    assert soft_contrastive_loss(predictions, labels).item() == pytest.approx(2.75, abs=0.01)


@given(seeds, st.sampled_from([0.2, 0.5, 1.0]), st.booleans())
def test_no_prediction_goes_below_the_bound(seed, tau, positive):
    predictions, labels, confidence = batch(seed)
    loss = entries(predictions, labels, confidence, temperature=tau, include_positive=positive)
    assert (loss >= -1 / tau + math.log(6) - 1e-12).all()


def test_including_the_positive_keeps_the_loss_above_zero():
    _, labels, confidence = batch(0)
    one_hot = torch.nn.functional.one_hot(labels, 4).double()
    options = {"temperature": 0.1}
    assert (entries(one_hot, labels, **options) < 0).all()
    assert (entries(one_hot, labels, include_positive=True, **options) > 0).all()
    assert (entries(one_hot, labels, confidence, include_positive=True, **options) > 0).all()


def test_default_temperature_is_a_half():
    predictions, labels, confidence = batch(1)
    assert torch.equal(
        entries(predictions, labels, confidence),
        entries(predictions, labels, confidence, temperature=0.5),
    )


# --- the ablations of RPSC's Table 4 -------------------------------------------------------------


def test_scl_1_is_the_numerator_alone():
    predictions, labels, _ = batch(2)
    loss = entries(predictions, labels, None, negatives=False)
    assert_close(loss, -2 * cosines_to_own_class(predictions, labels), **TIGHT)


def test_scl_2_is_the_numerator_with_the_confidence():
    predictions, labels, confidence = batch(3)
    loss = entries(predictions, labels, confidence, negatives=False)
    expected = -2 * confidence * cosines_to_own_class(predictions, labels)
    assert_close(loss, expected, **TIGHT)


def test_scl_3_adds_the_other_labels_to_scl_1():
    predictions, labels, _ = batch(4)
    unit = predictions / predictions.norm(dim=-1, keepdim=True)
    others = labels[:, None] != labels
    repulsion = ((2 * unit @ unit.T).exp() * others).sum(-1).log()
    scl_1 = entries(predictions, labels, negatives=False)
    assert_close(entries(predictions, labels), scl_1 + repulsion, **TIGHT)


def test_the_denominator_does_not_see_the_confidence():
    predictions, labels, confidence = batch(5)
    scl_1 = entries(predictions, labels, negatives=False)
    scl_2 = entries(predictions, labels, confidence, negatives=False)
    scl_3 = entries(predictions, labels)
    full = entries(predictions, labels, confidence)
    assert_close(full - scl_2, scl_3 - scl_1, **TIGHT)


# --- confidence modes ----------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("negatives", [True, False])
@pytest.mark.parametrize("positive", [True, False])
def test_full_confidence_is_no_confidence(mode, negatives, positive):
    predictions, labels, confidence = batch(6)
    options = {"confidence_mode": mode, "negatives": negatives, "include_positive": positive}
    assert_close(
        entries(predictions, labels, torch.ones_like(confidence), **options),
        entries(predictions, labels, **options),
        **TIGHT,
    )


@given(seeds, st.booleans(), st.sampled_from([0.0, 1e-3, 1.0]))
def test_literal_mode_is_blind_to_the_confidence(seed, positive, low):
    predictions, labels, confidence = batch(seed)
    options = {"confidence_mode": "literal", "include_positive": positive}
    plain = entries(predictions, labels, **options)
    assert torch.equal(entries(predictions, labels, confidence * low, **options), plain)


@given(seeds, st.booleans(), st.booleans())
def test_scale_mode_falls_with_the_confidence(seed, negatives, positive):
    predictions, labels, confidence = batch(seed)
    options = {"negatives": negatives, "include_positive": positive}
    lower = entries(predictions, labels, confidence / 2, **options)
    higher = entries(predictions, labels, confidence, **options)
    assert (higher < lower).all()


@given(seeds, st.booleans(), st.booleans())
def test_weight_mode_is_proportional_to_the_confidence(seed, negatives, positive):
    predictions, labels, confidence = batch(seed)
    options = {"negatives": negatives, "include_positive": positive}
    weighted = entries(predictions, labels, confidence, confidence_mode="weight", **options)
    assert_close(weighted, confidence * entries(predictions, labels, **options), **TIGHT)


def test_weight_mode_divides_by_the_valid_anchors_not_by_the_confidence():
    predictions, labels, confidence = batch(7)
    labels = torch.where(torch.arange(8) < 2, -1, labels)
    options = {"confidence_mode": "weight"}
    total = soft_contrastive_loss(predictions, labels, confidence, reduction="sum", **options)
    mean = soft_contrastive_loss(predictions, labels, confidence, **options)
    assert_close(mean, total / 6, **TIGHT)


def test_smooth_mode_without_confidence_aims_at_the_uniform_prediction():
    uniform = torch.full((1, 4), 0.25, dtype=torch.float64)
    sure = torch.eye(4, dtype=torch.float64)[:1]
    label, none = torch.tensor([0]), torch.zeros(1, dtype=torch.float64)
    options = {"confidence_mode": "smooth", "negatives": False}
    assert entries(uniform, label, none, **options).item() == pytest.approx(-2.0)
    assert entries(sure, label, none, **options).item() == pytest.approx(-1.0)


@every_mode
def test_rows_need_not_sum_to_one(mode):
    predictions, labels, confidence = batch(8)
    assert_close(
        entries(predictions / 4, labels, confidence, confidence_mode=mode),
        entries(predictions, labels, confidence, confidence_mode=mode),
        **TIGHT,
    )


@every_mode
def test_a_zero_row_is_similar_to_nothing(mode):
    predictions, labels, confidence = batch(9)
    predictions[0] = 0
    predictions.requires_grad_()
    loss = entries(predictions, labels, confidence, confidence_mode=mode)
    weight = confidence[0].item() if mode == "weight" else 1.0
    assert loss[0].item() == pytest.approx(weight * math.log(6))
    loss.sum().backward()
    assert predictions.grad.isfinite().all()


# --- negatives -----------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("positive", [True, False])
def test_a_batch_of_one_class_keeps_only_the_numerator(mode, positive):
    predictions, _, confidence = batch(10)
    predictions.requires_grad_()
    labels = torch.zeros(8, dtype=torch.int64)
    options = {"confidence_mode": mode}
    loss = entries(predictions, labels, confidence, include_positive=positive, **options)
    assert_close(loss, entries(predictions, labels, confidence, negatives=False, **options))
    loss.sum().backward()
    assert predictions.grad.isfinite().all()
    assert predictions.grad.ne(0).any()


def test_an_anchor_alone_with_its_copies_loses_its_denominator_only():
    predictions, _, _ = batch(11, size=4)
    labels = torch.tensor([0, 1, 1, 1])
    ids = torch.tensor([0, 0, 1, 1])  # row 1 copies row 0: it has no other negative
    loss = entries(predictions, labels, sample_ids=ids, include_positive=True)
    numerator = entries(predictions, labels, negatives=False)
    assert_close(loss[1], numerator[1], **TIGHT)
    assert (loss[[0, 2, 3]] > numerator[[0, 2, 3]]).all()


def test_ignored_entries_are_negatives_of_nobody():
    predictions, labels, confidence = batch(12)
    labels = torch.where(torch.arange(8) % 3 == 0, -1, labels)
    kept = labels >= 0
    assert_close(
        entries(predictions, labels, confidence)[kept],
        entries(predictions[kept], labels[kept], confidence[kept]),
        **TIGHT,
    )


def test_entries_of_the_same_label_are_not_negatives():
    predictions, labels, _ = batch(13)
    moved = predictions.clone()
    moved[4] = predictions[5]  # rows 0 and 4 share a label
    before, after = entries(predictions, labels), entries(moved, labels)
    assert_close(after[0], before[0], **TIGHT)
    assert not torch.isclose(after[1], before[1])


@pytest.mark.parametrize("positive", [True, False])
def test_different_sample_ids_change_nothing(positive):
    predictions, labels, confidence = batch(14)
    ids = torch.tensor([7, -3, 12, 0, 2**40, 5, 6, 9])
    options = {"include_positive": positive}
    assert_close(
        entries(predictions, labels, confidence, sample_ids=ids, **options),
        entries(predictions, labels, confidence, **options),
        **TIGHT,
    )


def test_one_sample_id_for_all_leaves_no_negative():
    predictions, labels, confidence = batch(15)
    assert_close(
        entries(predictions, labels, confidence, sample_ids=torch.zeros(8, dtype=torch.int64)),
        entries(predictions, labels, confidence, negatives=False),
        **TIGHT,
    )


def test_copies_under_two_labels_do_not_repel_each_other():
    predictions, labels, _ = batch(16)
    predictions[1] = predictions[0]
    ids = torch.tensor([0, 0, 2, 3, 4, 5, 6, 7])
    with_ids = entries(predictions, labels, sample_ids=ids)
    without = entries(predictions, labels)
    # The copy, cosine 1 and so exp(2), leaves the sum over negatives of both of them.
    repulsion = without + 2 * cosines_to_own_class(predictions, labels)
    repulsion_ids = with_ids + 2 * cosines_to_own_class(predictions, labels)
    gap = repulsion.exp() - repulsion_ids.exp()
    assert_close(gap[:2], torch.full((2,), math.exp(2), dtype=torch.float64), **TIGHT)
    assert_close(gap[2:], torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-10)


def test_sample_ids_of_another_shape_are_refused_with_both_that_fit():
    predictions, labels = torch.full((2, 3, 6, 4), 0.25), torch.zeros(2, 3, 6, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"^sample_ids: expected shape \(6,\) or \(2, 3, 6\)"):
        soft_contrastive_loss(predictions, labels, sample_ids=torch.arange(5))


def test_sample_ids_of_the_batch_serve_every_head():
    predictions, labels, confidence = batch(17, 8, 4, 2, 3)
    ids = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    shared = entries(predictions, labels, confidence, sample_ids=ids)
    each = entries(predictions, labels, confidence, sample_ids=ids.expand(2, 3, 8))
    assert torch.equal(shared, each)
    assert not torch.allclose(shared, entries(predictions, labels, confidence))


def test_including_the_positive_without_negatives_does_nothing():
    predictions, labels, confidence = batch(18)
    assert torch.equal(
        entries(predictions, labels, confidence, negatives=False, include_positive=True),
        entries(predictions, labels, confidence, negatives=False),
    )


def test_a_tiny_temperature_stays_finite():
    predictions, labels, confidence = batch(19)
    predictions = predictions.float().requires_grad_()
    loss = soft_contrastive_loss(predictions, labels, confidence.float(), temperature=1e-3)
    loss.backward()
    assert loss.isfinite()
    assert predictions.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e-30, 1e-38, 1e-300])
def test_tiny_predictions_have_a_direction(size):
    dtype = torch.float64 if size < 1e-100 else torch.float32
    predictions = torch.tensor([[size, 0.0], [0.0, size]], dtype=dtype)
    labels = torch.tensor([0, 1])
    expected = soft_contrastive_loss(torch.eye(2, dtype=dtype), labels)
    assert_close(soft_contrastive_loss(predictions, labels), expected)
