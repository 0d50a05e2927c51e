"""What each style of rows is for, it can draw; one that turned into another style cannot."""

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from pseudolabel.testing import features, labels, probabilities
from pseudolabel.testing._rows import (
    FEATURE_STYLES,
    PROB_STYLES,
    feature_decoder,
    prob_decoder,
)
from pseudolabel.testing._samples import ALL, CLEAR, PLAIN, TIED, TWINS

QUICK = settings(max_examples=300, derandomize=True, database=None)


def rank(rows):
    return int(torch.linalg.matrix_rank(rows, atol=1e-6))


def twins(rows):
    return len(rows.unique(dim=0)) < len(rows)


def whole(rows):
    return bool((rows == rows.round()).all())


def lengths(rows):
    return rows.norm(dim=1)


# What a style can draw, and another one of its neighbours in the list cannot, or hardly.
FEATURES = {
    "grid": lambda x: (
        rank(x) == 3 and whole(x) and len(x.unique(dim=0)) == 6 and x.abs().max() <= 3
    ),
    "decimals": lambda x: rank(x) == 3 and not whole(x) and len(x.unique(dim=0)) == 6,
    "duplicates": lambda x: twins(x) and lengths(x).min() > 0 and rank(x) > 1,
    "zero_rows": lambda x: lengths(x).min() == 0 < lengths(x).max() and twins(x[lengths(x) > 0]),
    "collinear": lambda x: rank(x) == 1 and (x @ x[0] < 0).any() and len(x.unique(dim=0)) > 2,
    "low_rank": lambda x: rank(x) == 2 and len(x.unique(dim=0)) == 6,
    "clustered": lambda x: (
        lengths(x).min() > 100 and not twins(x) and lengths(x[0] - x[1:]).min() < 10
    ),
    "norms": lambda x: lengths(x).max() > 1e5 * lengths(x).min() > 0,
}
PROBS = {
    "weights": lambda p: p.unique().numel() > 6 and p.max() < 1,
    "ties": lambda p: (p[:, 0] == p[:, 1]).any() and p.unique().numel() > 4,
    "one_hot": lambda p: ((p == 0) | (p == 1)).all() and (p.sum(0) > 0).all(),
    "uniform": lambda p: (p == p[0, 0]).all(),
    "saturated": lambda p: (p == 1).any() and ((p > 0) & (p < 1e-12)).any(),
    "near_ties": lambda p: 0 < (p[:, 0] - p[:, 1]).abs().max() < 1e-6,
    "imbalanced": lambda p: ((p.argmax(1) == 0).sum() == 5) & (p.argmax(1) == 1).any(),
}


def test_no_style_is_forgotten():
    assert (tuple(FEATURES), tuple(PROBS)) == (FEATURE_STYLES, PROB_STYLES)


@pytest.mark.parametrize("style", FEATURES)
def test_rows_can_be_what_the_style_is_for(style):
    rows = features(6, 3, styles=[style], dtype=torch.float64)
    found = find(rows, lambda x: bool(FEATURES[style](x)), settings=QUICK)
    assert found.shape == (6, 3)


@pytest.mark.parametrize("style", PROBS)
def test_probabilities_can_be_what_the_style_is_for(style):
    drawn = probabilities(6, 3, styles=[style], dtype=torch.float64)
    assert find(drawn, lambda p: bool(PROBS[style](p)), settings=QUICK).shape == (6, 3)


@given(st.data())
def test_rows_are_always_what_the_style_promises(data):
    def drawn(style):
        return data.draw(features(6, 3, styles=[style], dtype=torch.float64))

    assert whole(drawn("grid"))
    assert rank(drawn("collinear")) <= 4  # as many as rows to choose from
    assert rank(drawn("low_rank")) <= 2
    assert len(drawn("duplicates").unique(dim=0)) <= 4


@given(st.data())
def test_a_single_class_is_certain_and_never_more(data):
    probs = data.draw(probabilities(5, 1, styles=["near_ties"], dtype=torch.float64))
    assert (probs <= 1).all()


def test_byte_0_is_the_row_of_zeros():
    decoder = feature_decoder(lambda _: [b"\x01\x02\x03"] * 2, "zero_rows", 3)
    assert decoder.decode(b"\x00") == [0.0, 0.0, 0.0]
    assert decoder.decode(b"\x01") == [0.1, -0.1, 0.2]
    assert decoder.pool == 3


def test_a_cluster_is_three_wide_around_a_centre_ten_times_as_far():
    decoder = feature_decoder(lambda _: [b"\x01\x02\x03"] * 2, "clustered", 3)
    assert decoder.decode(bytes([0, 0, 59, 60])) == pytest.approx([1.0, -1.0 + 3.0, 2.0 - 3.0])


def test_near_ties_are_at_most_two_last_places_of_a_float32_from_uniform():
    places = [
        (2 * x - 1) * 2**24 for x in prob_decoder("near_ties", 2).decode(bytes([0, 1, 2, 3, 4]))
    ]
    assert places == [0, 1, -1, 2, -2]


@given(labels(6, 3, unlabelled=False))
def test_labels_without_a_missing_one(drawn):
    assert (drawn >= 0).all()


@pytest.mark.parametrize("styles", [ALL, TIED, TWINS, CLEAR, PLAIN], ids=str)
def test_laws_are_tried_on_styles_that_exist(styles):
    assert set(styles.features) <= set(FEATURE_STYLES)
    assert set(styles.probs) <= set(PROB_STYLES)


def test_labels_may_all_be_missing_only_where_some_may():
    def none(y):
        return bool((y < 0).all())

    assert none(find(labels(20, 3), none, settings=QUICK))
    with pytest.raises(NoSuchExample):
        find(labels(1, 3, unlabelled=False), none, settings=QUICK)
