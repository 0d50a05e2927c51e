import time

import pytest
import torch
from common.timing import in_network, metered


def test_time_inside_and_outside_the_network():
    with metered() as meter:
        with in_network(torch.device("cpu"), 7):
            time.sleep(0.06)
        time.sleep(0.02)
        with in_network(torch.device("cpu"), 5):
            pass
        outside, seconds = meter.outside, meter.seconds
    assert meter.images == 12
    assert seconds >= 0.08
    assert outside == pytest.approx(1 - 0.06 / seconds, abs=0.1)


def test_without_a_meter_nothing_is_counted():
    with metered() as meter:
        pass
    with in_network(torch.device("cpu"), 7):
        pass
    assert meter.images == 0
    assert meter.outside == 1


def test_many_steps_are_counted_on_every_device(device):
    rows = torch.ones(64, 64, device=device)
    with metered() as meter:
        for _ in range(600):
            with in_network(device, 1):
                rows = rows @ rows / 64
        assert 0 <= meter.outside < 1
    assert meter.images == 600
