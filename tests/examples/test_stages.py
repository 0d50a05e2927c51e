import pytest
import torch
from common.augmentation import digit_views
from common.backbones import SmallConvNet
from common.clustering import HeadSettings, train_heads
from common.data import load_digits
from common.semi_supervised import JointSettings, train_jointly
from lightning.fabric import Fabric
from torch import nn

from pseudolabel import FixedThreshold, double_softmax_cross_entropy, prototype_labels

HEADS = HeadSettings(heads=3, hidden=8, rounds=1, repeats=1, batch_size=16)
JOINT = JointSettings(steps=2, labelled_batch=4, unlabelled_batch=8)


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def images():
    return load_digits().images[:40]


@pytest.fixture
def encoder():
    return SmallConvNet(width=2)


def heads_of(fabric, encoder, images, settings=HEADS, label=prototype_labels):
    views = digit_views()
    torch.manual_seed(0)
    return train_heads(
        fabric,
        encoder,
        images,
        views,
        settings,
        num_classes=10,
        label=label,
        loss=lambda logits, entries: double_softmax_cross_entropy(logits, entries.labels),
        label_view=views.weak,
    )


def test_heads_train_on_a_frozen_encoder(fabric, encoder, images):
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    heads, losses = heads_of(fabric, encoder, images)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert losses.shape == (3,)
    assert not losses.requires_grad
    assert not heads.training


@pytest.mark.parametrize("assignment", ["overlap", "greedy", "optimal", "sequential", "nearest"])
def test_every_assignment_trains(fabric, encoder, images, assignment):
    def label(embeddings, probs):
        return prototype_labels(embeddings, probs, assignment=assignment)

    assert heads_of(fabric, encoder, images, label=label).losses.isfinite().all()


def test_heads_with_batch_norm_train_on_a_part_of_the_samples(fabric, encoder, images):
    settings = HeadSettings(heads=2, hidden=8, rounds=2, samples=20, norm="batch")
    assert heads_of(fabric, encoder, images, settings).losses.isfinite().all()


def test_more_samples_than_images_are_refused(fabric, encoder, images):
    settings = HeadSettings(samples=41)
    with pytest.raises(ValueError, match="samples: expected 1 to 40 of the images, got 41"):
        heads_of(fabric, encoder, images, settings)


def network_of(encoder):
    return nn.Sequential(encoder, nn.Linear(32, 10))


def test_joint_training_moves_every_weight(fabric, encoder, images):
    network = network_of(encoder)
    before = [parameter.clone() for parameter in network.parameters()]
    labels = torch.arange(40) % 11 - 1
    average = train_jointly(
        fabric, network, images, labels, digit_views(), JOINT, threshold=FixedThreshold(0.0)
    )
    for trained in (network, average):
        pairs = zip(before, trained.parameters(), strict=True)
        assert not any(torch.equal(old, new) for old, new in pairs)
    assert not average.training


def test_joint_training_without_a_reliable_label_is_refused(fabric, encoder, images):
    labels = torch.full((40,), -1)
    with pytest.raises(ValueError, match="labels: expected at least one reliable label"):
        train_jointly(
            fabric,
            network_of(encoder),
            images,
            labels,
            digit_views(),
            JOINT,
            threshold=FixedThreshold(),
        )
