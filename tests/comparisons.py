"""Comparing results with results and with oracles, field by field."""

import itertools

import torch


def assert_identical(actual, expected):
    """Equal types, and every field equal bit by bit: dtype, shape and values."""
    assert type(actual) is type(expected)
    if isinstance(actual, tuple):
        for name, a, b in zip(actual._fields, actual, expected, strict=True):
            if isinstance(a, torch.Tensor):
                assert a.dtype == b.dtype, name
                assert torch.equal(a, b), f"{name}: {a} is not {b}"
            else:
                assert a == b, name
    else:
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected), f"{actual} is not {expected}"


def assert_entries(actual, expected, *, atol=0.0):
    """One head's pseudo-labels against an oracle's: same samples and labels, same similarities."""
    assert actual.indices.tolist() == expected.indices
    assert actual.labels.tolist() == expected.labels
    torch.testing.assert_close(
        actual.similarity.double(),
        torch.tensor(expected.similarity, dtype=torch.float64),
        rtol=0,
        atol=atol,
    )


def head(result, position):
    """One head of a NamedTuple of tensors (or of a tensor), by its position tuple."""
    if isinstance(result, torch.Tensor):
        return result[position]
    return type(result)(*(f[position] if isinstance(f, torch.Tensor) else f for f in result))


def positions(heads):
    """The index tuple of every head; one empty tuple where there are no heads."""
    return list(itertools.product(*map(range, heads)))
