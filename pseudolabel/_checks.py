"""Validation at the public boundary: what every operator says when it is called wrongly.

Kind, shape, dtype and device are always checked and never cost a device synchronisation. Values
(finite, in range) are checked too, except while compiling and on CUDA; see `check_values`.
Every message reads ``<argument>: expected <what>, got <what came>``.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_value_checks: bool | None = None


class check_values:
    """Turns the checks of values (finite, in range) on or off, for good or for a ``with`` block.

    By default values are checked on every device but CUDA, where a check waits for the device,
    and never while compiling. The setting is process-wide.

    Args:
        enabled: True checks on every device, False on none, None restores the default.

    Raises:
        TypeError: If ``enabled`` is neither a bool nor None.

    Example:
        >>> import torch
        >>> from pseudolabel import check_values, select_confident
        >>> with check_values(False):
        ...     select_confident(torch.tensor([[2.0], [1.0]]), 1)  # not probabilities: unnoticed
        tensor([[0]])
    """

    def __init__(self, enabled: bool | None) -> None:
        global _value_checks
        if enabled is not None and not isinstance(enabled, bool):
            wrong_type("enabled", "True, False or None", enabled)
        self._enabled, self._previous = enabled, _value_checks
        _value_checks = enabled

    def __enter__(self) -> check_values:
        global _value_checks
        _value_checks = self._enabled
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _value_checks
        _value_checks = self._previous


def values_are_checked(x: Tensor) -> bool:
    """Whether to look at the values of ``x``, which on CUDA would wait for the device."""
    if torch.compiler.is_compiling() or x.device.type == "meta":
        return False
    return x.device.type != "cuda" if _value_checks is None else _value_checks


def describe(value: object) -> str:
    """A value as an error message shows it: tensors and arrays by kind, shape and dtype."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of shape {value.shape} and {value.dtype}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (int, float, str)) or value is None:
        return repr(value)
    return f"a {type(value).__name__}"


def wrong_type(name: str, expected: str, got: object) -> NoReturn:
    """Raises the TypeError for an argument of the wrong kind."""
    raise TypeError(f"{name}: expected {expected}, got {describe(got)}")


def wrong_value(name: str, expected: str, got: object) -> NoReturn:
    """Raises the ValueError for an argument of the right kind with a wrong shape or value."""
    raise ValueError(f"{name}: expected {expected}, got {describe(got)}")


def check_floating(name: str, x: Tensor, axes: str, *, finite: bool = True) -> None:
    """Checks for a floating-point tensor with the axes named, ``"*heads, M, K"`` for instance."""
    if not isinstance(x, Tensor):
        wrong_type(name, f"a floating-point tensor of shape ({axes})", x)
    if x.dtype not in FLOATING:
        wrong_type(name, "a floating-point dtype of 16 bits or more", x)
    check_axes(name, x, axes)
    if finite and values_are_checked(x) and not torch.isfinite(x).all():
        wrong_value(name, "finite values", _first(x, ~torch.isfinite(x)))


def check_probs(name: str, x: Tensor, axes: str) -> None:
    """Checks for a tensor of probabilities in [0, 1]; rows need not sum to 1."""
    check_floating(name, x, axes)
    if values_are_checked(x):
        outside = (x < 0) | (x > 1)
        if outside.any():
            wrong_value(name, "probabilities in [0, 1]", _first(x, outside))


def check_integer(name: str, x: Tensor, axes: str) -> None:
    """Checks for an int64 tensor with the axes named."""
    if not isinstance(x, Tensor):
        wrong_type(name, f"an int64 tensor of shape ({axes})", x)
    if x.dtype != torch.int64:
        wrong_type(name, "dtype torch.int64", x)
    check_axes(name, x, axes)


def as_int64(name: str, labels: np.ndarray) -> np.ndarray:
    """An array of integers as int64; none may be too large for it."""
    if labels.dtype.kind == "u" and labels.max(initial=0) > np.iinfo(np.int64).max:
        wrong_value(name, "integers below 2**63", int(labels.max()))
    return labels.astype(np.int64)


def check_labels(
    name: str, labels: Tensor, num_classes: int | None = None, *, also: int = -1
) -> None:
    """Checks that labels lie in [-1, num_classes); ``also`` is one more value that is allowed."""
    if not values_are_checked(labels) or labels.numel() == 0:
        return
    outside = labels < -1
    expected = "labels of -1 (unlabelled) or above"
    if num_classes is not None:
        outside = outside | (labels >= num_classes)
        expected = f"labels in [-1, {num_classes - 1}]"
    outside = outside & (labels != also)
    if outside.any():
        wrong_value(name, expected, _first(labels, outside))


def check_axes(name: str, x: Tensor, axes: str) -> None:
    """Checks the number of axes; a leading ``*`` stands for any number of them."""
    names = axes.split(", ")
    missing = len(names) - x.dim()
    if missing > 1 or (missing != 0 and not axes.startswith("*")):
        wrong_value(name, f"shape ({axes})", x)


def check_shape(name: str, x: Tensor, shape: Iterable[int], reason: str) -> None:
    """Checks for an exact shape; ``reason`` says where it comes from."""
    shape = tuple(shape)
    if tuple(x.shape) != shape:
        wrong_value(name, f"shape {shape} ({reason})", x)


def check_device(name: str, x: Tensor, reference: Tensor) -> None:
    """Checks that two tensors live on one device."""
    if x.device != reference.device:
        raise ValueError(f"{name}: expected a tensor on {reference.device}, got one on {x.device}")


def check_has_values(name: str, x: Tensor) -> None:
    """Checks that a tensor whose values decide the course of a computation has any."""
    if x.device.type == "meta":
        raise ValueError(f"{name}: expected a tensor with values, got one on the meta device")


def check_option(name: str, value: object, choices: Sequence[str]) -> None:
    """Checks a string option against its choices."""
    if not isinstance(value, str):
        wrong_type(name, "one of " + ", ".join(map(repr, choices)), value)
    if value not in choices:
        wrong_value(name, "one of " + ", ".join(map(repr, choices)), value)


def check_flag(name: str, value: object) -> None:
    """Checks for a bool."""
    if not isinstance(value, bool):
        wrong_type(name, "True or False", value)


def check_int(name: str, value: object, low: int, high: int | None, reason: str = "") -> int:
    """Checks for an int in [low, high] and returns it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, torch.SymInt)):
        wrong_type(name, "an int", value)
    if value < low or (high is not None and value > high):
        interval = f"of {low} or more" if high is None else f"in [{low}, {high}]"
        wrong_value(name, f"an int {interval}{reason}", int(value))
    return int(value)


def check_real(
    name: str,
    value: object,
    *,
    low: float = 0.0,
    high: float = 1.0,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Checks for a finite number in an interval and returns it as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        wrong_type(name, "a number", value)
    x = float(value)
    above = x > low if low_open else x >= low
    below = x < high if high_open else x <= high
    if not (above and below and abs(x) < float("inf")):
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        wrong_value(name, f"a number in {interval}", x)
    return x


def _first(x: Tensor, where: Tensor) -> object:
    return x[where][0].item()
