"""The oracles themselves, on cases worked by hand."""

import math

import numpy as np
import oracles
import pytest
import torch
from comparisons import assert_entries, assert_identical

from pseudolabel import PseudoLabels

# Two clusters, four samples. Both want sample 0; cluster 1 wants it more.
TABLE = [[0.8, 0.7, 0.1, 0.0], [0.9, 0.2, 0.3, 0.4]]


def test_confident_samples_come_in_order_with_ties_to_the_lowest_index():
    probs = [[0.2, 1.0], [0.9, 1.0], [0.9, 0.5], [0.1, 1.0]]
    assert oracles.select_confident(probs, 2) == [[1, 2], [0, 1]]
    assert oracles.select_confident(probs, [3, 1]) == [[1, 2, 0], [0]]


@pytest.mark.parametrize(
    ("num_samples", "prior", "expected"),
    [
        (10, None, [3, 3, 3]),
        (10, [0.1, 0.2, 0.7], [1, 2, 7]),
        (5, [1000, 1, 1, 1, 1], [1, 1, 1, 1, 1]),  # 4, 1, 1, 1, 1 less three
        (7, [3, 3, 0.001, 0.001, 0.001], [2, 2, 1, 1, 1]),  # 3, 3, 1, 1, 1 less two
        (6, [3, 3, 0.001, 0.001, 0.001], [1, 2, 1, 1, 1]),  # 2, 2, 1, 1, 1 less one
    ],
)
def test_shares(num_samples, prior, expected):
    assert oracles.shares(num_samples, len(expected), prior) == expected


def test_parts_are_read_as_decimals_and_never_empty():
    assert oracles.part(0.29, 100) == 29
    assert oracles.part(1 / 3, 9) == 3
    assert oracles.part(float(np.float32(0.7)), 10) == 7
    assert oracles.part(0.5, 1) == 1


def test_prototypes_are_means_over_the_members():
    rows = [[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]]
    assert oracles.class_prototypes(rows, [[0, 1], [2, -1], [-1, -1]]) == [[2, 1], [5, 5], [0, 0]]


def test_unit_rows_keep_a_zero_row():
    np.testing.assert_allclose(oracles.unit_rows([[3, 4], [0, 0]]), [[0.6, 0.8], [0, 0]])


def test_similarities():
    assert oracles.cosine([3, 4], [12, 16]) == 1
    assert oracles.cosine([1, 0], [-1, 1]) == pytest.approx(-math.sqrt(0.5))
    assert oracles.cosine([0, 0], [0, 0]) == 0
    assert oracles.cosine([1e200, 0], [1e-200, 0]) == pytest.approx(1)
    assert oracles.cosine([0.3, -0.7], [0.3 * 2**900, -0.7 * 2**900]) == 1
    assert oracles.negative_distance([0, 3], [4, 0]) == -5


@pytest.mark.parametrize(
    ("rule", "indices", "labels"),
    [
        ("overlap", [0, 1, 0, 3], [0, 0, 1, 1]),
        ("sequential", [0, 1, 3, 2], [0, 0, 1, 1]),
        ("greedy", [1, 2, 0, 3], [0, 0, 1, 1]),
        ("optimal", [0, 1, 3, 2], [0, 0, 1, 1]),  # 1.5 + 0.7 = 2.2; greedy only has 2.1
        ("nearest", [1, -1, 0, 3], [0, -1, 1, 1]),
    ],
)
def test_assignment_rules(rule, indices, labels):
    entries = oracles.assign(TABLE, 2, rule)
    assert entries.indices == indices
    assert entries.labels == labels
    expected = [TABLE[c][i] if c >= 0 else -math.inf for c, i in zip(labels, indices, strict=True)]
    assert entries.similarity == expected


def test_all_equal_similarities_go_to_the_lowest_cluster_and_sample():
    table = [[0.5] * 4] * 2
    assert oracles.assign(table, 2, "greedy").indices == [0, 1, 2, 3]
    assert oracles.assign(table, 2, "nearest").indices == [0, 1, -1, -1]
    assert oracles.nearest_prototype(table) == [0] * 4


def test_dense_takes_the_most_similar_then_the_lowest_label():
    entries = oracles.Entries([0, 1, 1, 0, 2, -1], [0, 0, 1, 1, 1, -1], [0.5, 0.2, 0.3, 0.5, 0, -1])
    assert oracles.dense(entries, 4) == [0, 1, 1, -1]
    assert oracles.multi_hot(entries, 4, 2) == [
        [True, True],
        [True, True],
        [False, True],
        [False, False],
    ]


def test_confidence_is_one_at_the_prototype_and_zero_at_the_farthest_entry():
    entries = oracles.Entries(
        [4, 2, 3, 1, -1], [0, 0, 0, 1, -1], [0.0, -1.0, -4.0, -2.0, -math.inf]
    )
    assert oracles.label_confidence(entries, "euclidean") == [1, 0.75, 0, 0, 0]
    assert oracles.label_confidence(entries, "euclidean", "paper") == [0, 0.25, 1, 1, 0]
    assert oracles.label_confidence(entries, "euclidean", "none") == [1, 1, 1, 1, 0]


def test_confidence_under_the_cosine_uses_the_chord():
    entries = oracles.Entries([0, 1], [0, 0], [0.5, -1.0])  # chords 1 and 2
    assert oracles.label_confidence(entries, "cosine") == [0.5, 0]


def test_decided_sees_what_hangs_on_rounding():
    table = [[0.5, 0.5 + 1e-9], [0.1, 0.3]]
    assert not oracles.decided(table, rows=[0, 1], prototypes=[0, 1], tolerance=1e-6)
    assert oracles.decided(table, rows=[0, 0], prototypes=[0, 1], tolerance=1e-6)
    assert oracles.decided(table, rows=[0, 1], prototypes=[0, 1], tolerance=1e-12)
    crossing = [[0.5, 0.1], [0.5, 0.3]]
    assert not oracles.decided(crossing, rows=[0, 1], prototypes=[0, 1], tolerance=1e-6)
    assert oracles.decided(crossing, rows=[0, 1], prototypes=[0, 0], tolerance=1e-6)


@pytest.mark.parametrize("field", ["indices", "labels", "similarity", "prototypes", "metric"])
def test_the_comparison_sees_a_wrong_field(field):
    right = PseudoLabels(
        torch.tensor([1, 0]), torch.tensor([0, 1]), torch.ones(2), torch.ones(2, 3), "cosine"
    )
    wrong = right._replace(
        **{field: "euclidean" if field == "metric" else getattr(right, field).flip(0) * 2}
    )
    assert_identical(right, right)
    with pytest.raises(AssertionError):
        assert_identical(wrong, right)


def test_the_comparison_sees_a_wrong_dtype():
    with pytest.raises(AssertionError):
        assert_identical(torch.ones(2), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_entry_comparison_sees_a_wrong_field(part):
    entries = oracles.Entries([1, 0], [0, 1], [0.5, 0.25])
    tensors = [torch.tensor(values) for values in entries]
    prototypes = torch.ones(2, 3)
    assert_entries(PseudoLabels(*tensors, prototypes, "cosine"), entries)
    tensors[part] = tensors[part].flip(0)
    with pytest.raises(AssertionError):
        assert_entries(PseudoLabels(*tensors, prototypes, "cosine"), entries)
