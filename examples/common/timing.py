"""How long a stage takes, how many images it sees, and how much of it is not the network.

What waits for data, augments it or labels it is outside the network; forward passes, backward
passes and optimiser steps are inside. On a GPU the time inside is read from events on its stream,
so that measuring never makes it wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

import torch

EVENTS_IN_FLIGHT = 256  # the oldest of so many has long happened: reading it does not wait


class Meter:
    """What one stage has spent so far.

    Attributes:
        images: How many images passed through the network, each view by itself.
    """

    def __init__(self) -> None:
        self.images = 0
        self._start = perf_counter()
        self._inside = 0.0
        self._events: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return perf_counter() - self._start

    @property
    def outside(self) -> float:
        """Share of these seconds, in [0, 1], that the network did not take."""
        self._read_events(0)
        return max(0.0, 1 - self._inside / self.seconds)

    def state_dict(self) -> dict[str, float]:
        """What was spent so far."""
        self._read_events(0)
        return {"seconds": self.seconds, "inside": self._inside, "images": self.images}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes over what was spent before."""
        self._start = perf_counter() - state["seconds"]
        self._inside, self.images = state["inside"], int(state["images"])

    @contextmanager
    def inside(self, device: torch.device) -> Iterator[None]:
        """Counts the block as time inside the network."""
        if device.type == "cuda":
            events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            events[0].record()
            yield
            events[1].record()
            self._events.append(events)
            self._read_events(EVENTS_IN_FLIGHT)
        else:
            start = perf_counter()
            yield
            self._inside += perf_counter() - start

    def _read_events(self, left: int) -> None:
        while len(self._events) > left:
            start, end = self._events.popleft()
            end.synchronize()
            self._inside += start.elapsed_time(end) / 1000


_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter for everything that happens in the block; not to be nested."""
    meter = Meter()
    token = _current.set(meter)
    try:
        yield meter
    finally:
        _current.reset(token)


def spent() -> Meter:
    """The meter of the stage, or one that nobody reads."""
    return _current.get() or Meter()


@contextmanager
def in_network(device: torch.device, images: int) -> Iterator[None]:
    """Tells the meter, if there is one, that the block runs the network on so many images."""
    meter = _current.get()
    if meter is None:
        yield
        return
    with meter.inside(device):
        yield
    meter.images += images
