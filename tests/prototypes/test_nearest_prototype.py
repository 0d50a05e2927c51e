"""RPSC Eq. 6: the label of the most similar prototype."""

import oracles
import pytest
import torch
from comparisons import positions
from hypothesis import given
from strategies import DTYPES, HEADS, METRICS, assignments, gaussian, metrics

from pseudolabel import assign_labels, nearest_prototype

both_metrics = pytest.mark.parametrize("metric", METRICS)


def table(features, prototypes, metric):
    return [
        [oracles.similarity(metric, row, p) for row in features.double().tolist()]
        for p in prototypes.double().tolist()
    ]


@both_metrics
@given(problem=assignments())
def test_equals_the_oracle(metric, problem):
    features, prototypes, _ = problem
    labels = nearest_prototype(features, prototypes, metric=metric)
    assert labels.dtype == torch.int64
    assert labels.tolist() == oracles.nearest_prototype(table(features, prototypes, metric))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@both_metrics
def test_every_dtype_head_and_tie(metric, dtype, heads, ties):
    features = gaussian(3, 60, 7, dtype=dtype)
    prototypes = gaussian(4, *heads, 4, 7, dtype=dtype)
    if ties:
        features = features[torch.arange(60) % 7]
        prototypes = prototypes[..., [0, 1, 1, 0], :]
    together = nearest_prototype(features, prototypes, metric=metric)
    assert together.shape == (*heads, 60)
    for position in positions(heads):
        apart = prototypes[position]
        rows = table(features, apart, metric)
        names = [0, 1, 1, 0] if ties else range(4)
        for column in zip(*rows, strict=True):  # the seeds leave no close call
            assert oracles.decided([[v] for v in column], [0], names, tolerance=1e-5)
        assert together[position].tolist() == oracles.nearest_prototype(rows)
        assert torch.equal(nearest_prototype(features, apart, metric=metric), together[position])


@both_metrics
@pytest.mark.parametrize("dim", [1, 3, 17, 33, 100])
def test_equal_prototypes_go_to_the_lowest_cluster(metric, dim):
    features = gaussian(dim, 301, dim, dtype=torch.float32)
    prototypes = gaussian(dim + 1, 2, dim, dtype=torch.float32)[torch.arange(19) % 2]
    labels = nearest_prototype(features, prototypes, metric=metric)
    assert torch.equal(labels, nearest_prototype(features, prototypes[:2], metric=metric))
    assert labels.max() <= 1


def test_a_zero_row_goes_to_the_lowest_cluster_that_does_not_oppose():
    assert nearest_prototype(torch.zeros(1, 2), gaussian(0, 3, 2).float()).tolist() == [0]


def test_a_zero_prototype_wins_against_opposed_ones():
    prototypes = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert nearest_prototype(torch.tensor([[2.0, 0.0]]), prototypes).tolist() == [1]


def test_the_length_of_a_prototype_matters_under_euclidean_alone():
    features = torch.tensor([[1.0, 0.2]])
    prototypes = torch.tensor([[1.0, 1.0], [100.0, 0.0]])
    assert nearest_prototype(features, prototypes, metric="euclidean").tolist() == [0]
    assert nearest_prototype(features, prototypes).tolist() == [1]


def test_the_centre_competes_by_its_direction():
    """A long prototype has the larger dot product, the short one the larger cosine."""
    features = torch.tensor([[1.0, 0.0]])
    prototypes = torch.tensor([[9.0, 9.0], [0.5, 0.1]])
    assert nearest_prototype(features, prototypes).tolist() == [1]


@given(metric=metrics, problem=assignments())
def test_agrees_with_the_rule_that_hands_every_sample_to_its_closest(metric, problem):
    features, prototypes, _ = problem
    everybody = assign_labels(
        features, prototypes, len(features), assignment="nearest", metric=metric
    )
    expected = everybody.dense(len(features))
    assert torch.equal(nearest_prototype(features, prototypes, metric=metric), expected)


def test_one_cluster_layout_gradients_inputs_and_device(device):
    features = gaussian(0, 4, 9).t().requires_grad_()
    prototypes = gaussian(1, 4, 3).t().to(device).requires_grad_()
    before = features.detach().clone()
    moved = features.to(device)
    labels = nearest_prototype(moved, prototypes)
    assert labels.device.type == device.type
    assert not labels.requires_grad
    assert torch.equal(labels, nearest_prototype(moved.contiguous(), prototypes.contiguous()))
    assert nearest_prototype(moved, prototypes[:1]).eq(0).all()
    assert torch.equal(features, before)


@both_metrics
def test_more_rows_than_a_block_and_several_heads(metric):
    features, prototypes = gaussian(0, 20_000, 2), gaussian(1, 2, 3, 2)
    labels = nearest_prototype(features, prototypes, metric=metric)
    assert labels.shape == (2, 20_000)
    for head, alone in zip(prototypes, labels, strict=True):
        assert torch.equal(nearest_prototype(features, head, metric=metric), alone)
        assert torch.equal(nearest_prototype(features[-5:], head, metric=metric), alone[-5:])


def test_what_is_reported_equal_goes_to_the_lower_class():
    features = torch.tensor([[1.0, 1e-5]])
    prototypes = torch.tensor([[1.0, 0.0], [1.0, 1e-5]])  # the cosines differ by 5e-11
    assert assign_labels(features, prototypes, 1).similarity.tolist() == [1.0, 1.0]
    assert nearest_prototype(features, prototypes).tolist() == [0]
    assert nearest_prototype(features.double(), prototypes.double()).tolist() == [1]
