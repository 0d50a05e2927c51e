from collections import deque

import pytest
import torch
from common.augmentation import digit_views
from common.backbones import SmallConvNet
from common.data import load_digits
from common.journal import Stage
from common.representation import MomentumContrast, RepresentationSettings, train_representation
from lightning.fabric import Fabric
from torch.nn.functional import normalize

SETTINGS = RepresentationSettings(queue=7, projection=5, batch_size=8, epochs=1)


@pytest.fixture
def model():
    return MomentumContrast(SmallConvNet(width=2), SETTINGS)


def rows(queue):
    return sorted(row.tolist() for row in queue)


def test_the_queue_keeps_the_latest_keys_whatever_the_batch_sizes(model):
    expected = deque(model.queue, maxlen=7)
    for size in (3, 2, 5, 7, 1, 20, 4, 6):
        keys = normalize(torch.randn(size, 5), dim=1)
        model.enqueue(keys)
        expected.extend(keys)
        assert rows(model.queue) == rows(expected)


def test_the_queue_starts_on_the_sphere_and_stays_there(model):
    images = torch.rand(8, 1, 8, 8)
    model(images, images)
    torch.testing.assert_close(model.queue.norm(dim=1), torch.ones(7))


def test_the_loss_is_info_nce_against_the_queue_as_it_was(model):
    first, second = torch.rand(2, 8, 1, 8, 8)
    model.eval()
    queue = model.queue.clone()
    queries, keys = (
        normalize(net(x), dim=1)
        for net, x in zip((model.query, model.key), (first, second), strict=True)
    )
    positive = (queries * keys).sum(1)
    scores = torch.cat([positive[:, None], queries @ queue.T], dim=1) / SETTINGS.temperature
    expected = (scores.logsumexp(1) - scores[:, 0]).mean()
    torch.testing.assert_close(model(first, second), expected)


def test_only_the_query_encoder_learns_and_the_key_encoder_follows(model):
    images = torch.rand(8, 1, 8, 8)
    model(images, images.flip(-1)).backward()
    assert all(parameter.grad is None for parameter in model.key.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.query.parameters())

    with torch.no_grad():
        for parameter in model.query.parameters():
            parameter += 1
    before = [parameter.clone() for parameter in model.key.parameters()]
    model.follow()
    pairs = zip(before, model.query.parameters(), model.key.parameters(), strict=True)
    for old, query, key in pairs:
        momentum = SETTINGS.key_momentum
        torch.testing.assert_close(key, momentum * old + (1 - momentum) * query)


@pytest.mark.parametrize(("features", "width"), [("projection", 5), ("backbone", 32)])
def test_training_changes_the_backbone_and_gives_the_features_asked_for(features, width):
    images = load_digits().images[:32]
    backbone = SmallConvNet(width=2)
    before = [parameter.clone() for parameter in backbone.parameters()]
    settings = RepresentationSettings(
        queue=7, projection=5, batch_size=8, epochs=1, features=features
    )
    fabric = Fabric(accelerator="cpu", devices=1)
    encoder = train_representation(
        fabric, Stage("1"), backbone, images, digit_views().contrastive, settings
    )
    assert encoder(images.float()).shape == (32, width)
    changed = zip(before, backbone.parameters(), strict=True)
    assert not any(torch.equal(old, new) for old, new in changed)
