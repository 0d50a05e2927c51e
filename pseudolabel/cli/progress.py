"""How far a command is, on stderr, and how long each stage took."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from tqdm import tqdm


class Stages:
    """A bar with one step a stage.

    Args:
        total: How many stages there will be.
        quiet: Whether to show nothing.

    Attributes:
        seconds: Of each stage that is over, by name.
    """

    def __init__(self, total: int, *, quiet: bool) -> None:
        self.seconds: dict[str, float] = {}
        self._bar = tqdm(
            total=total,
            disable=quiet,
            file=sys.stderr,
            bar_format="{desc:24}{bar:20} {n_fmt}/{total_fmt} [{elapsed}]",
        )

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Times a stage."""
        self._bar.set_description_str(name)
        start = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - start, 3)
        self._bar.update()

    def close(self) -> None:
        """Ends the bar's line, so that a message after it starts on its own."""
        self._bar.close()
