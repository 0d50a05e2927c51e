"""SPICE Eq. 2: the most confident samples of every cluster."""

import oracles
import pytest
import torch
from comparisons import positions
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, HEADS, probabilities, seeds

from pseudolabel import select_confident


def padded(chosen):
    width = max(len(members) for members in chosen)
    return [members + [-1] * (width - len(members)) for members in chosen]


@given(st.data())
def test_equals_the_oracle(data):
    num_samples, num_clusters = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 5))
    probs = data.draw(probabilities(num_samples, num_clusters))
    counts = data.draw(
        st.integers(1, num_samples)
        | st.lists(st.integers(1, num_samples), min_size=num_clusters, max_size=num_clusters)
    )
    indices = select_confident(probs, counts)
    assert indices.dtype == torch.int64
    assert indices.tolist() == padded(oracles.select_confident(probs.tolist(), counts))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_head_and_tie(dtype, heads, ties):
    rng = torch.Generator().manual_seed(3)
    levels = 5 if ties else 2**20
    probs = (torch.randint(0, levels, (*heads, 41, 3), generator=rng) / levels).to(dtype)
    together = select_confident(probs, [4, 41, 7])
    assert together.shape == (*heads, 3, 41)
    for position in positions(heads):
        apart = probs[position]
        expected = padded(oracles.select_confident(apart.tolist(), [4, 41, 7]))
        assert together[position].tolist() == expected
        assert torch.equal(select_confident(apart, [4, 41, 7]), together[position])


@pytest.mark.parametrize("num_samples", [16, 17, 64, 257, 700])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_saturated_probabilities_go_to_the_lowest_index(dtype, num_samples):
    probs = torch.zeros(num_samples, 2, dtype=dtype)
    probs[1::3, 0] = 1.0
    probs[:, 1] = 1.0
    ones = torch.arange(1, num_samples, 3)
    rest = torch.tensor([i for i in range(num_samples) if i % 3 != 1])
    indices = select_confident(probs, num_samples)
    assert indices[0].tolist() == [*ones.tolist(), *rest.tolist()]
    assert indices[1].tolist() == list(range(num_samples))


def test_minus_zero_is_zero():
    probs = torch.tensor([[-0.0], [0.0], [-0.0], [0.0]])
    assert select_confident(probs, 4).tolist() == [[0, 1, 2, 3]]


def test_the_smallest_difference_counts():
    one = torch.tensor(1.0)
    probs = torch.stack([torch.nextafter(one, one * 0), one, one]).unsqueeze(-1)
    assert select_confident(probs, 3).tolist() == [[1, 2, 0]]
    assert select_confident(torch.tensor([[0.0], [1e-45], [1e-40]]), 3).tolist() == [[2, 1, 0]]


def test_float64_is_not_rounded():
    probs = torch.tensor([[0.5], [0.5 + 1e-12], [0.5 + 2e-12]], dtype=torch.float64)
    assert select_confident(probs, 2).tolist() == [[2, 1]]


@pytest.mark.parametrize("make", [list, tuple, torch.tensor, lambda c: torch.tensor(c).numpy()])
def test_counts_come_as_any_sequence_of_integers(make):
    probs = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    assert select_confident(probs, make([1, 2])).tolist() == [[2, -1], [0, 1]]


@given(probabilities(12, 3, ties=False), st.integers(1, 12), seeds)
def test_permuting_samples_renames_them(probs, count, seed):
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(order[select_confident(probs[order], count)], select_confident(probs, count))


@given(
    probabilities(10, 4),
    st.permutations(range(4)),
    st.lists(st.integers(1, 10), min_size=4, max_size=4),
)
def test_permuting_clusters_permutes_rows(probs, order, counts):
    renamed = select_confident(probs[:, order], [counts[c] for c in order])
    assert torch.equal(renamed, select_confident(probs, counts)[order])


@given(probabilities(9, 3), st.integers(1, 8))
def test_a_larger_count_extends_a_smaller_one(probs, count):
    more = select_confident(probs, count + 1)
    assert torch.equal(more[:, :count], select_confident(probs, count))


def test_layout_does_not_show():
    probs = torch.rand(7, 5)
    expected = select_confident(probs, 3)
    assert torch.equal(select_confident(probs.t().contiguous().t(), 3), expected)
    assert torch.equal(select_confident(probs.repeat_interleave(2, 0)[::2], 3), expected)
    assert torch.equal(select_confident(probs.expand(4, 7, 5), 3), expected.expand(4, 5, 3))


def test_input_is_unchanged():
    probs = torch.rand(6, 2)
    before = probs.clone()
    select_confident(probs, 3)
    assert torch.equal(probs, before)
