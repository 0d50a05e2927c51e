"""What the losses share: which entries count, and how they are reduced."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pseudolabel._checks import (
    check_device,
    check_floating,
    check_int,
    check_integer,
    check_labels,
    check_option,
    check_shape,
    values_are_checked,
    wrong_value,
)

Reduction = Literal["mean", "sum", "none"]


def check_batch(
    name: str, scores: Tensor, labels_name: str, labels: Tensor, reduction: str, ignore_index: int
) -> Tensor:
    """Checks scores ``(*heads, B, K)`` with labels ``(*heads, B)``; returns which entries count.

    Ignored rows may hold anything, so only the others are looked at.
    """
    check_floating(name, scores, "*heads, B, K", finite=False)
    check_integer(labels_name, labels, "*heads, B")
    check_shape(labels_name, labels, scores.shape[:-1], f"one label for each row of {name}")
    check_device(labels_name, labels, scores)
    check_option("reduction", reduction, ("mean", "sum", "none"))
    check_int("ignore_index", ignore_index, -(2**63), 2**63 - 1)
    if scores.shape[-1] == 0:
        wrong_value(name, "at least one class", scores)
    check_labels(labels_name, labels, scores.shape[-1], also=ignore_index)
    valid = (labels != -1) & (labels != ignore_index)
    if values_are_checked(scores):
        wrong = valid.unsqueeze(-1) & ~torch.isfinite(scores)
        if wrong.any():
            wrong_value(name, "finite values", scores[wrong][0].item())
    return valid


def entry_values(name: str, values: Tensor, labels: Tensor, valid: Tensor, high: float) -> Tensor:
    """Checks a constant in [0, high] for each entry; what ignored entries hold becomes 0."""
    check_floating(name, values, "*heads, B", finite=False)
    check_shape(name, values, labels.shape, "one number for each label")
    check_device(name, values, labels)
    values = torch.where(valid, values.detach(), 0)
    if values_are_checked(values):
        wrong = ~((values >= 0) & (values <= high)) | torch.isinf(values)
        if wrong.any():
            expected = "finite values of 0 or more" if high > 1 else "values in [0, 1]"
            wrong_value(name, expected, values[wrong][0].item())
    return widen(values)


def widen(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 stay."""
    return x if x.dtype == torch.float64 else x.float()


def reduce(losses: Tensor, count: Tensor | int, reduction: Reduction, dtype: torch.dtype) -> Tensor:
    """Reduces ``(*heads, B)``; without entries to count, the mean is 0 and keeps its graph."""
    if reduction == "none":
        return losses.to(dtype)
    total = losses.sum(-1)
    if reduction == "mean":
        total = total / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))
    return total.to(dtype)
