"""Ranges of settings, told beside their types and checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Annotated, NamedTuple, get_args, get_type_hints


class Range(NamedTuple):
    """From ``low`` to ``high``, ends included unless they are open; never infinite or NaN."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"more than {self.low}" if self.open_low else f"{self.low} or more"
        ends = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"a number in {ends[0]}{self.low}, {self.high}{ends[1]}"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Ratio = Annotated[float, Range(0, 1, open_low=True)]
Decay = Annotated[float, Range(0, 1, open_high=True)]


def check_ranges(settings: object, prefix: str = "") -> None:
    """Checks all fields that have a range, in nested settings too.

    Raises:
        ValueError: If a value is outside; names the option as the command line does.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        value, option = getattr(settings, name), f"{prefix}{name}".replace("_", "-")
        if is_dataclass(value):
            check_ranges(value, f"{option}.")
        for allowed in _ranges(hint):
            if value is not None and value not in allowed:
                raise ValueError(f"--{option}: expected {allowed}, got {value}")


def _ranges(hint: object) -> Iterator[Range]:
    """Those of a type, also where it is one of several."""
    if isinstance(hint, Range):
        yield hint
    for part in get_args(hint):
        yield from _ranges(part)
