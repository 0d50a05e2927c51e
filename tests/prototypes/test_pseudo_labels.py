"""What pseudo-labels turn into: dense labels, multi-hot labels, confidences (RPSC Eq. 3)."""

import math

import oracles
import pytest
import torch
from comparisons import head, positions
from hypothesis import given
from hypothesis import strategies as st
from strategies import ASSIGNMENTS, DTYPES, HEADS, METRICS, assignments, gaussian, metrics, rules

from pseudolabel import PseudoLabels, assign_labels, label_confidence

KINDS = ("one_minus", "paper", "none")


def entries(pseudo):
    return oracles.Entries(
        pseudo.indices.tolist(), pseudo.labels.tolist(), pseudo.similarity.tolist()
    )


def made(indices, labels, similarity, *, num_clusters=3, metric="euclidean"):
    prototypes = torch.zeros(num_clusters, 2)
    similarity = torch.tensor(similarity)
    return PseudoLabels(torch.tensor(indices), torch.tensor(labels), similarity, prototypes, metric)


@pytest.mark.parametrize("rule", ASSIGNMENTS)
@given(metric=metrics, problem=assignments())
def test_dense_and_multi_hot_equal_the_oracle(rule, metric, problem):
    features, prototypes, counts = problem
    size = len(features)
    pseudo = assign_labels(features, prototypes, counts, assignment=rule, metric=metric)
    dense, hot = pseudo.dense(size), pseudo.multi_hot(size)
    assert dense.dtype == torch.int64
    assert hot.dtype == torch.bool
    assert dense.tolist() == oracles.dense(entries(pseudo), size)
    assert hot.tolist() == oracles.multi_hot(entries(pseudo), size, len(counts))


@given(rule=rules, problem=assignments(heads=(2, 2)))
def test_dense_and_multi_hot_agree_on_every_head(rule, problem):
    features, prototypes, counts = problem
    size = len(features)
    pseudo = assign_labels(features, prototypes, counts, assignment=rule)
    dense, hot = pseudo.dense(size), pseudo.multi_hot(size)
    assert dense.shape == (2, 2, size)
    assert hot.shape == (2, 2, size, len(counts))
    assert torch.equal(dense >= 0, hot.any(-1))
    assert hot.gather(-1, dense.clamp(min=0).unsqueeze(-1)).squeeze(-1)[dense >= 0].all()
    assert torch.equal(hot.sum((-1, -2)), (pseudo.indices >= 0).sum(-1))
    for position in ((0, 0), (0, 1), (1, 0), (1, 1)):
        apart = head(pseudo, position)
        assert torch.equal(apart.dense(size), dense[position])
        assert torch.equal(apart.multi_hot(size), hot[position])


def test_dense_takes_the_most_similar_label_then_the_lowest():
    pseudo = made(
        [0, 1, 1, 0, 2, -1], [0, 0, 1, 1, 2, -1], [-0.5, -2.0, -1.0, -0.5, -3.0, -math.inf]
    )
    assert pseudo.dense(5).tolist() == [0, 1, 2, -1, -1]
    late = made([0, 0, 0], [2, 1, 0], [-1.0, -1.0, -2.0])
    assert late.dense(1).tolist() == [1]


def test_dense_never_writes_free_places_to_the_last_sample():
    pseudo = made([0, -1, -1], [0, -1, -1], [-1.0, -math.inf, -math.inf])
    assert pseudo.dense(3).tolist() == [0, -1, -1]
    assert pseudo.multi_hot(3)[1:].any().item() is False


def test_dense_with_blocks_of_ties():
    """Every sample carries every label at one similarity: the lowest label, however many."""
    order = torch.randperm(900)
    pseudo = PseudoLabels(
        (torch.arange(900) // 3)[order],
        (torch.arange(900) % 3)[order],
        torch.full((900,), 0.25),
        torch.zeros(3, 2),
        "cosine",
    )
    assert pseudo.dense(300).eq(0).all()


@given(problem=assignments(ties=False), extra=st.integers(0, 5))
def test_samples_beyond_the_entries_are_unlabelled(problem, extra):
    pseudo = assign_labels(*problem)
    size = len(problem.features)
    assert pseudo.dense(size + extra)[size:].eq(-1).all()
    assert torch.equal(pseudo.dense(size + extra)[:size], pseudo.dense(size))
    assert not pseudo.multi_hot(size + extra)[size:].any()


# Confidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(rule=st.sampled_from(["overlap", "nearest"]), metric=metrics, problem=assignments())
def test_confidence_equals_the_oracle(rule, metric, kind, problem):
    pseudo = assign_labels(*problem, assignment=rule, metric=metric)
    confidence = label_confidence(pseudo, kind=kind)
    expected = torch.tensor(
        oracles.label_confidence(entries(pseudo), metric, kind), dtype=torch.float64
    )
    torch.testing.assert_close(confidence.double(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_confidence_of_every_dtype_head_and_tie(dtype, heads, ties):
    features, prototypes = gaussian(0, 20, 5, dtype=dtype), gaussian(1, *heads, 3, 5, dtype=dtype)
    if ties:
        features = features[torch.arange(20) % 4]
    for metric in METRICS:
        pseudo = assign_labels(features, prototypes, 6, assignment="nearest", metric=metric)
        together = label_confidence(pseudo)
        assert together.shape == (*heads, 18)
        assert together.is_floating_point()
        for position in positions(heads):
            apart = head(pseudo, position)
            assert torch.equal(label_confidence(apart), together[position])
            expected = torch.tensor(oracles.label_confidence(entries(apart), metric))
            torch.testing.assert_close(
                label_confidence(apart).float(), expected.float(), rtol=0, atol=1e-6
            )


def test_default_is_one_minus():
    pseudo = made([0, 1, 2], [0, 0, 0], [-1.0, -2.0, -4.0])
    assert label_confidence(pseudo).tolist() == [0.75, 0.5, 0.0]
    assert label_confidence(pseudo, kind="paper").tolist() == [0.25, 0.5, 1.0]
    assert label_confidence(pseudo, kind="none").tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_free_places_have_no_confidence(kind):
    pseudo = made([0, -1, 1, -1], [0, -1, 2, -1], [-1.0, -math.inf, -2.0, -math.inf])
    confidence = label_confidence(pseudo, kind=kind)
    assert confidence[[1, 3]].tolist() == [0.0, 0.0]


def test_a_whole_class_without_entries_is_finite():
    pseudo = made([-1, -1, 4], [-1, -1, 1], [-math.inf, -math.inf, -2.0])
    for kind in KINDS:
        assert label_confidence(pseudo, kind=kind).isfinite().all()


def test_every_cluster_has_its_own_scale():
    pseudo = made([0, 1, 2, 3], [0, 0, 1, 1], [-1.0, -2.0, -10.0, -40.0])
    assert label_confidence(pseudo).tolist() == [0.5, 0.0, 0.75, 0.0]


def test_all_distances_zero_is_full_confidence():
    euclidean = made([0, 1], [0, 0], [0.0, -0.0])
    cosine = made([0, 1], [0, 0], [1.0, 1.0], metric="cosine")
    for pseudo in (euclidean, cosine):
        assert label_confidence(pseudo).tolist() == [1.0, 1.0]
        assert label_confidence(pseudo, kind="paper").tolist() == [0.0, 0.0]


def test_distances_below_a_millionth_count_as_zero():
    below = made([0, 1], [0, 0], [-1e-7, -9e-7])
    assert label_confidence(below, kind="paper").tolist() == [0.0, 0.0]
    above = made([0, 1], [0, 0], [-9e-7, -2e-6])
    assert label_confidence(above, kind="paper").tolist() == [0.0, 1.0]


def test_a_single_entry_away_from_its_prototype_is_the_farthest():
    assert label_confidence(made([0], [0], [-0.5])).tolist() == [0.0]


def test_cosine_distance_is_the_chord():
    pseudo = made([0, 1, 2], [0, 0, 0], [1.0, 0.5, -1.0], metric="cosine")
    assert label_confidence(pseudo, kind="paper").tolist() == [0.0, 0.5, 1.0]


def test_rpsc_confidences_on_a_line():
    """RPSC Eq. 3: |F_i - G_c| / max: prototype at 1, rows at 1, 2, 3 and 5."""
    features = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    pseudo = assign_labels(features, torch.tensor([[1.0]]), 4, metric="euclidean")
    assert label_confidence(pseudo, kind="paper").tolist() == [0.0, 0.25, 0.5, 1.0]


@given(problem=assignments())
def test_confidence_lies_in_the_unit_interval_and_falls_with_distance(problem):
    pseudo = assign_labels(*problem)
    confidence = label_confidence(pseudo)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    for part in confidence.split(problem.counts):
        assert torch.equal(part, part.sort(descending=True).values)
    torch.testing.assert_close(label_confidence(pseudo, kind="paper"), 1 - confidence)
