"""SPICE Eq. 3: the plain mean over the selected rows."""

import oracles
import pytest
import torch
from comparisons import positions
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, HEADS, gaussian, seeds

from pseudolabel import class_prototypes, select_confident

RESULT_DTYPE = {torch.float64: torch.float64}


def random_indices(seed, *shape, num_samples):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-1, num_samples, shape, generator=rng)


@given(seeds, st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))
def test_equals_the_oracle(seed, num_samples, dim, num_clusters, width):
    features = gaussian(seed, num_samples, dim)
    indices = random_indices(seed, num_clusters, width, num_samples=num_samples)
    expected = torch.tensor(
        oracles.class_prototypes(features, indices.tolist()), dtype=torch.float64
    )
    torch.testing.assert_close(class_prototypes(features, indices), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_head_and_tie(dtype, heads, ties):
    features = gaussian(1, 30, 17, dtype=dtype)
    if ties:
        features = features[torch.arange(30) % 4]
    indices = random_indices(2, *heads, 3, 11, num_samples=30)
    together = class_prototypes(features, indices)
    assert together.shape == (*heads, 3, 17)
    assert together.dtype == RESULT_DTYPE.get(dtype, torch.float32)
    for position in positions(heads):
        apart = indices[position]
        assert torch.equal(class_prototypes(features, apart), together[position])
        expected = oracles.class_prototypes(features.double(), apart.tolist())
        torch.testing.assert_close(
            together[position].double(),
            torch.tensor(expected, dtype=torch.float64),
            rtol=0,
            atol=2e-7,
        )


def test_free_places_are_skipped_and_never_read_as_the_last_row():
    features = torch.tensor([[1.0], [3.0], [100.0]])
    indices = torch.tensor([[0, 1, -1], [-1, 0, -1], [-1, -1, -1]])
    assert class_prototypes(features, indices).tolist() == [[2.0], [1.0], [0.0]]


@pytest.mark.parametrize("heads", [(), (3,)])
def test_clusters_without_a_place_get_zeros(heads):
    nobody = torch.zeros(*heads, 2, 0, dtype=torch.int64)
    prototypes = class_prototypes(torch.ones(4, 5), nobody)
    assert prototypes.shape == (*heads, 2, 5)
    assert not prototypes.any()


def test_a_free_place_hides_a_huge_last_row():
    features = torch.tensor([[1.0], [3e38]])
    assert class_prototypes(features, torch.tensor([[0, -1]])).tolist() == [[1.0]]


def test_the_mean_is_not_normalised():
    features = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    assert class_prototypes(features, torch.tensor([[0, 1]])).tolist() == [[1.0, 2.0]]


def test_a_row_chosen_twice_counts_twice():
    features = torch.tensor([[0.0], [3.0]])
    assert class_prototypes(features, torch.tensor([[0, 1, 1]])).tolist() == [[2.0]]


def test_half_precision_is_summed_in_float32():
    # 4096 ones in float16 stop growing at 2048, in bfloat16 at 256.
    for dtype in (torch.float16, torch.bfloat16):
        features = torch.ones(4096, 1, dtype=dtype)
        assert class_prototypes(features, torch.arange(4096).view(1, -1)).item() == 1.0


@given(seeds)
def test_the_order_of_the_members_is_rounding_alone(seed):
    features, order = gaussian(seed, 12, 3), torch.randperm(12)
    forward = class_prototypes(features, torch.arange(12).view(1, -1))
    shuffled = class_prototypes(features, order.view(1, -1))
    torch.testing.assert_close(forward, shuffled, rtol=0, atol=1e-14)


def test_permuting_samples_and_indices_changes_nothing():
    features, order = gaussian(0, 8, 3), torch.randperm(8)
    where = torch.argsort(order)
    indices = select_confident(torch.rand(8, 2), 3)
    assert torch.equal(
        class_prototypes(features[order], where[indices]), class_prototypes(features, indices)
    )


def test_layout_gradients_and_inputs():
    features = gaussian(0, 3, 8, dtype=torch.float32).t().requires_grad_()
    indices = torch.tensor([[0, 1, 5], [7, 2, -1]])
    before = features.detach().clone(), indices.clone()
    prototypes = class_prototypes(features, indices)
    assert not prototypes.requires_grad
    assert torch.equal(prototypes, class_prototypes(features.contiguous(), indices))
    assert torch.equal(features, before[0])
    assert torch.equal(indices, before[1])
