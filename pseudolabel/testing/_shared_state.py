"""What everybody shares: the random states and the settings of torch and NumPy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch.get_default_dtype()": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.is_grad_enabled()": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.are_deterministic_algorithms_enabled()": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch.get_float32_matmul_precision()": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "torch.get_num_threads()": (torch.get_num_threads, torch.set_num_threads),
    "numpy.geterr()": (np.geterr, lambda kept: np.seterr(**kept)),
}


def drawn_from_random_state() -> tuple[object, ...]:
    """The global random states after a draw from each, which no fresh seed leads to."""
    random.random()
    np.random.random()  # noqa: NPY002 - the state that everybody shares
    torch.rand(1)
    return random_state()


def random_state() -> tuple[object, ...]:
    """Those of Python, NumPy and torch."""
    shared = [np.asarray(part).tobytes() for part in np.random.get_state()]  # noqa: NPY002
    return random.getstate(), shared, torch.get_rng_state().numpy().tobytes()


@contextmanager
def settings_put_back() -> Iterator[list[str]]:
    """Gives a list that names, in the end, which settings were changed; they are put back."""
    before = {name: get() for name, (get, _) in _SETTINGS.items()}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for name, (get, put) in _SETTINGS.items():
            if get() != before[name]:
                changed.append(name)
                put(before[name])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Cases are of the CPU, whatever the default device; the global generator is put back."""
    state = torch.get_rng_state()
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_rng_state(state)
