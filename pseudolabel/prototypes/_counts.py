"""How many samples each cluster selects and labels: planned in Python integers, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from torch import Tensor

from pseudolabel._checks import check_int, check_real, wrong_type, wrong_value
from pseudolabel._numerics import as_fraction


def class_counts(count: object, num_classes: int, num_samples: int) -> tuple[int, ...]:
    """One count for each class, from one int for all or a sequence of ``K`` ints."""
    if not isinstance(count, (Sequence, Tensor, np.ndarray)) or isinstance(count, str):
        return (check_int("count", count, 1, num_samples, " (the samples)"),) * num_classes
    values = _listed("count", count, "an int or a sequence of K ints", num_classes)
    return tuple(check_int("count", n, 1, num_samples, " (the samples)") for n in values)


def class_shares(num_samples: int, num_classes: int, prior: object = None) -> tuple[int, ...]:
    """The share ``n_c`` of every class: ``M // K``, or what a prior gives it, at least 1.

    What the minimum of 1 adds above ``M`` is taken off the largest share, lowest class first.
    """
    if prior is None:
        return (num_samples // num_classes,) * num_classes
    if not isinstance(prior, (Sequence, Tensor, np.ndarray)) or isinstance(prior, str):
        wrong_type("prior", "a sequence of K positive numbers", prior)
    values = _listed("prior", prior, "a sequence of K positive numbers", num_classes)
    weights = [
        as_fraction(check_real("prior", p, high=float("inf"), low_open=True, high_open=True))
        for p in values
    ]
    total = sum(weights, Fraction(0))
    shares = [max(1, int(num_samples * weight / total)) for weight in weights]
    while sum(shares) > num_samples:
        shares[shares.index(max(shares))] -= 1
    return tuple(shares)


def scaled_counts(shares: Sequence[int], ratio: float) -> tuple[int, ...]:
    """``max(1, floor(ratio * n_c))`` for every share."""
    exact = as_fraction(ratio)
    return tuple(max(1, exact.numerator * n // exact.denominator) for n in shares)


def _listed(
    name: str, values: Sequence[object] | Tensor | np.ndarray, expected: str, length: int
) -> list[object]:
    if isinstance(values, (Tensor, np.ndarray)):
        if values.ndim != 1:
            wrong_value(name, expected, values)
        values = values.tolist()
    if len(values) != length:
        wrong_value(name, f"{length} values, one for each class", f"{len(values)} values")
    return list(values)
