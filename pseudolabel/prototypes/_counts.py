"""How many samples each cluster selects and labels: planned in Python integers, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import check_int, check_real, wrong_type, wrong_value
from pseudolabel._numerics import as_fraction


def class_counts(count: object, num_classes: int, num_samples: int) -> tuple[int, ...]:
    """One count for each class, from one int for all or a sequence of ``K`` ints."""
    if not isinstance(count, (Sequence, Tensor, np.ndarray)) or isinstance(count, (str, bytes)):
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
    for p in values:
        check_real("prior", p, high=float("inf"), low_open=True, high_open=True)
    weights = [as_fraction(p) for p in values]
    total = sum(weights, Fraction(0))
    parts = [weight / total for weight in weights]
    shares = [max(1, num_samples * part.numerator // part.denominator) for part in parts]
    while sum(shares) > num_samples:
        shares[shares.index(max(shares))] -= 1
    return tuple(shares)


def scaled_counts(shares: Sequence[int], ratio: float) -> tuple[int, ...]:
    """``max(1, floor(ratio * n_c))`` for every share."""
    exact = as_fraction(ratio)
    return tuple(max(1, exact.numerator * n // exact.denominator) for n in shares)


def _listed(
    name: str, values: Sequence[object] | Tensor | np.ndarray, expected: str, length: int
) -> list[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, np.ndarray) and values.ndim != 1:
        wrong_value(name, expected, values)
    if len(values) != length:
        wrong_value(name, f"{length} values, one for each class", f"{len(values)} values")
    return list(values)
