"""What people are told of a training, all of it without ground truth."""

import math

import pytest
import torch
from common.head_losses import LossSettings, head_loss, loss_floor
from common.health import Health
from common.journal import Stage
from common.prototype_task import Entries
from torch.utils.tensorboard import SummaryWriter

CONFIDENT = 30.0


def one_hot_logits(clusters, num_classes):
    return CONFIDENT * torch.nn.functional.one_hot(torch.tensor(clusters), num_classes).float()


def test_sizes_entropy_and_confidence_by_hand():
    stage = Stage("x")
    health = Health(stage, 4)
    health.see(one_hot_logits([0, 0, 1, 2], 4))
    health.see(one_hot_logits([0, 1, 1, 2], 4))
    health.tell(7, labelled=0.5)
    assert stage.notes["smallest_cluster"] == 0
    assert stage.notes["largest_cluster"] == pytest.approx(3 / 8)
    assert stage.notes["confidence"] == pytest.approx(1)
    assert stage.notes["labelled"] == 0.5
    shares = (3 / 8, 3 / 8, 2 / 8)
    entropy = -sum(share * math.log(share) for share in shares) / math.log(4)
    assert stage.notes["entropy"] == pytest.approx(entropy, abs=1e-5)


def test_nothing_is_told_of_nothing_and_nothing_is_told_twice():
    stage = Stage("x")
    health = Health(stage, 2)
    health.tell(1)
    assert stage.notes == {}
    health.see(one_hot_logits([0, 1], 2))
    health.tell(2)
    stage.notes.clear()
    health.tell(3)
    assert stage.notes == {}


def test_a_dying_cluster_is_named_when_it_dies_and_not_again(capsys):
    health = Health(Stage("2 heads"), 3)
    balanced, without = [0, 1, 2] * 40, [0, 1, 1] * 40

    def told(step, *heads):
        health.see(torch.stack([one_hot_logits(clusters, 3) for clusters in heads]))
        health.tell(step)
        return capsys.readouterr()[0].strip()

    assert told(1, without, balanced) == "", "what was never alive does not die"
    assert told(2, balanced, balanced) == ""
    assert "2 heads, step 3: head 0, cluster 2 is dying, with 0.00% of the images" in told(
        3, without, balanced
    )
    assert told(4, without, balanced) == ""
    assert told(5, balanced, balanced) == ""
    assert "head 1, cluster 2" in told(6, balanced, without)


def test_all_is_logged_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with SummaryWriter(tmp_path) as log:
        stage = Stage("1 x", log=log)
        stage.tell(3, loss=torch.tensor(0.5))
        stage.tell(5, loss=0.25)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("1 x/loss")
    assert [(event.step, event.value) for event in events] == [(3, 0.5), (5, 0.25)]


@pytest.mark.parametrize("name", ["double-softmax", "ce", "tce", "scl", "scl-1", "scl-2", "scl-3"])
def test_the_floor_is_where_perfect_predictions_end(name):
    classes, each = 5, 6
    labels = torch.arange(classes).repeat(each)[None]
    entries = Entries(labels, torch.ones_like(labels, dtype=torch.float32), torch.arange(30)[None])
    loss = head_loss(name, LossSettings())
    floor = loss_floor(name, LossSettings(), num_classes=classes, batch_size=classes * each)
    perfect = 1000 * torch.nn.functional.one_hot(labels, classes).float()
    assert loss(perfect, entries).item() == pytest.approx(floor, abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 10.0):
        logits = scale * torch.randn(1, 30, classes, generator=generator)
        assert loss(logits, entries).item() > floor
