import itertools

import pytest
import torch
from common.journal import Stage
from common.training import class_balanced_batches, fit, in_eval_mode, shuffled_batches
from lightning.fabric import Fabric
from torch import nn

from pseudolabel import FixedThreshold


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 25])
def test_shuffled_batches_pass_over_everything_in_turn(batch_size):
    positions = torch.arange(100, 110)
    drawn = torch.cat(list(shuffled_batches(positions, batch_size, steps=20, seed=3)))
    assert len(drawn) == 20 * batch_size
    for epoch in itertools.islice(drawn.split(10), len(drawn) // 10):
        assert epoch.sort().values.tolist() == positions.tolist()


@pytest.mark.parametrize("first", [1, 4, 19])
@pytest.mark.parametrize("batch_size", [1, 3, 10, 25])
def test_shuffled_batches_go_on_anywhere(batch_size, first):
    positions = torch.arange(10)
    whole = list(shuffled_batches(positions, batch_size, 20, seed=3))
    rest = list(shuffled_batches(positions, batch_size, 20, seed=3, first=first))
    assert torch.equal(torch.cat(rest), torch.cat(whole[first:]))
    other = list(shuffled_batches(positions, batch_size, 20, seed=4))
    assert not torch.equal(torch.cat(other), torch.cat(whole))


def test_class_balanced_batches_draw_labelled_samples_of_every_class_alike():
    labels = torch.tensor([-1] * 50 + [0] * 900 + [2] * 30 + [3] * 20)
    drawn = labels[torch.cat(list(class_balanced_batches(labels, 100, steps=60)))]
    counts = drawn.bincount(minlength=4)
    assert counts[1] == 0
    assert ((counts[[0, 2, 3]] - 2000).abs() < 200).all()


def test_fit_takes_one_step_a_batch_and_calls_back(fabric):
    weight = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], 0.1)
    calls = []
    fit(
        fabric,
        Stage("test"),
        {},
        optimizer,
        lambda first: iter([1.0, 2.0, 3.0]),
        lambda batch: weight * batch,
        steps=3,
        schedule="constant",
        after_step=lambda _: calls.append(weight.item()),
    )
    assert calls == pytest.approx([0.9, 0.7, 0.4])


def test_fit_lets_the_learning_rate_fall_to_zero(fabric):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(()))], 0.1)
    weight = optimizer.param_groups[0]["params"][0]
    fit(
        fabric,
        Stage("test"),
        {},
        optimizer,
        lambda _: iter(range(8)),
        lambda _: weight * 1.0,
        steps=8,
    )
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_fit_stops_at_a_loss_that_is_not_finite(fabric):
    weight = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], 0.1)
    with pytest.raises(FloatingPointError, match="stage x: the loss is no longer finite at step 1"):
        fit(
            fabric,
            Stage("stage x"),
            {},
            optimizer,
            lambda _: iter([0]),
            lambda _: weight * torch.nan,
            steps=1,
        )


def test_fit_says_where_an_operator_refused(fabric):
    weight = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], float("inf"))  # the loss of step 1 is finite

    def loss_of(_):
        selection = FixedThreshold(0.5)((weight * torch.ones(1, 2)).softmax(-1))
        return weight * selection.weights.sum()

    with pytest.raises(ValueError, match=r"stage x, step 2: probs: expected .* nan"):
        fit(
            fabric,
            Stage("stage x"),
            {},
            optimizer,
            lambda _: iter(range(2)),
            loss_of,
            steps=2,
        )


@pytest.mark.parametrize("training", [True, False])
def test_in_eval_mode_leaves_the_network_as_it_was(fabric, training):
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(10, 3)
    outputs = in_eval_mode(fabric, network, images, batch_size=4)
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, network.eval()(images))
