"""The random states that everybody shares."""

from __future__ import annotations

import random

import numpy as np
import torch


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
