import copy

import pytest
import torch
from common.augmentation import digit_views
from common.backbones import make_backbone
from common.clustering import HeadSettings, Learner, train_heads
from common.data import load_digits
from common.head_losses import LossSettings, head_loss
from common.journal import Stage
from common.network import Encoder
from common.prototype_task import PrototypeTask
from common.semi_supervised import JointSettings, Thresholded, train_jointly
from common.training import in_eval_mode
from lightning.fabric import Fabric
from torch import nn

from pseudolabel import ClusterHeads, FixedThreshold, prototype_labels

HEADS = {"heads": 3, "hidden": 8, "rounds": 1, "repeats": 1, "batch_size": 16}
JOINT = JointSettings(steps=2, labelled_batch=4, unlabelled_batch=8)


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def images():
    return load_digits().images[:40]


@pytest.fixture
def encoder():
    return Encoder(make_backbone("convnet-8", 1, width=2), None)


def heads_of(
    fabric,
    encoder,
    images,
    mode="frozen",
    label=prototype_labels,
    loss="double-softmax",
    **changes,
):
    views, settings = digit_views(), HeadSettings(**{**HEADS, **changes, "encoder": mode})
    torch.manual_seed(0)
    task = PrototypeTask(
        images,
        in_eval_mode(fabric, encoder, images, views.clean),
        settings,
        num_classes=10,
        label=label,
        loss=head_loss(loss, LossSettings()),
        clean=views.clean,
        label_view=views.weak,
        learn_view=views.strong,
    )
    return train_heads(fabric, Stage("2"), encoder, images, views, settings, task, num_classes=10)


def test_heads_train_on_a_frozen_encoder(fabric, encoder, images):
    encoder.train()
    before = copy.deepcopy(encoder.state_dict())
    trained = heads_of(fabric, encoder, images)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert trained.encoder is encoder
    assert trained.history[-1].losses.shape == (3,)
    assert not trained.head.training


def test_the_features_of_a_view_are_computed_once_a_round(fabric, encoder, images):
    seen = []
    encoder.register_forward_hook(lambda module, views, features: seen.append(len(features)))
    heads_of(fabric, encoder, images, rounds=3, repeats=5)
    # The embeddings, two views a round, and the clean one to judge heads and to predict.
    assert seen == [40] * (1 + 2 * 3 + 2)


def test_an_encoder_that_learns_is_a_copy(fabric, encoder, images):
    before = copy.deepcopy(encoder.state_dict())
    trained = heads_of(fabric, encoder, images, mode="joint")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    pairs = zip(trained.encoder.parameters(), encoder.parameters(), strict=True)
    assert not any(torch.equal(learned, old) for learned, old in pairs)
    assert not trained.encoder.training


def test_a_learner_looks_the_same_frozen_or_not(fabric, encoder, images):
    view, positions = digit_views().clean, torch.tensor([[3, 3, 0], [5, 39, 5]])
    heads = ClusterHeads(2, encoder.out_features, 10)
    frozen = Learner(fabric, encoder, heads, joint=False)
    joint = Learner(fabric, encoder, heads, joint=True)
    joint.encoder.eval()
    looks = [learner.look(images, view)(positions) for learner in (frozen, joint)]
    torch.testing.assert_close(*looks)
    assert looks[1].requires_grad
    assert not looks[0].requires_grad


@pytest.mark.parametrize("assignment", ["overlap", "greedy", "optimal", "sequential", "nearest"])
@pytest.mark.parametrize("loss", ["double-softmax", "tce", "scl"])
def test_every_assignment_trains(fabric, encoder, images, assignment, loss):
    def label(embeddings, probs):
        return prototype_labels(embeddings, probs, assignment=assignment)

    trained = heads_of(fabric, encoder, images, label=label, loss=loss)
    assert trained.history[-1].losses.isfinite().all()


def test_heads_with_batch_norm_train_on_a_part_of_the_samples(fabric, encoder, images):
    trained = heads_of(fabric, encoder, images, rounds=2, samples=20, norm="batch")
    assert trained.history[-1].losses.isfinite().all()


def test_more_samples_than_images_are_all_of_them(fabric, encoder, images):
    trained, expected = (
        heads_of(fabric, encoder, images, rounds=1, samples=samples) for samples in (41, None)
    )
    assert torch.equal(trained.probs, expected.probs)


def test_the_best_head_of_all_rounds_or_the_best_of_the_last(fabric, encoder, images):
    options = {"rounds": 6, "evaluate_every": 1, "learning_rate": 0.3}
    trained = {
        keep: heads_of(fabric, encoder, images, keep=keep, **options) for keep in ("last", "best")
    }
    losses = [moment.losses.min() for moment in trained["last"].history[1:]]
    best = trained["last"].history[1:][min(range(6), key=losses.__getitem__)]
    assert min(losses) < losses[-1], "the case shows nothing"
    assert trained["best"].index == best.losses.argmin()
    kept = best.sample[trained["best"].index].softmax(-1)
    torch.testing.assert_close(trained["best"].probs, kept)
    last = trained["last"].history[-1]
    torch.testing.assert_close(trained["last"].probs, last.sample[last.losses.argmin()].softmax(-1))


def network_of(encoder):
    return nn.Sequential(encoder, nn.Linear(32, 10))


@pytest.mark.parametrize("labelled", [True, False])
def test_joint_training_moves_every_weight(fabric, encoder, images, labelled):
    network = network_of(encoder)
    before = [parameter.clone() for parameter in network.parameters()]
    labels = torch.arange(40) % 11 - 1 if labelled else None
    consistency = Thresholded(FixedThreshold(0.0))
    trained = train_jointly(
        fabric,
        Stage("3"),
        network,
        images,
        labels,
        digit_views(),
        JOINT,
        consistency=consistency,
        num_classes=10,
    )
    for after in (network, trained.network):
        pairs = zip(before, after.parameters(), strict=True)
        assert not any(torch.equal(old, new) for old, new in pairs)
    assert not trained.network.training


def test_joint_training_without_a_reliable_label_is_refused(fabric, encoder, images):
    labels = torch.full((40,), -1)
    with pytest.raises(ValueError, match="labels: expected at least one reliable label"):
        train_jointly(
            fabric,
            Stage("3"),
            network_of(encoder),
            images,
            labels,
            digit_views(),
            JOINT,
            consistency=Thresholded(FixedThreshold()),
            num_classes=10,
        )
