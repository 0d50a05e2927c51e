"""The losses by name, and SCAN's, against their formulas written out."""

import math

import pytest
import scan
import torch
from common.augmentation import digit_views
from common.backbones import make_backbone
from common.clustering import HeadSettings, Learner
from common.data import load_digits
from common.head_losses import LossSettings, head_loss
from common.neighbor_task import NeighborTask
from common.network import Encoder
from common.prototype_task import Entries
from common.training import in_eval_mode
from lightning.fabric import Fabric
from torch.nn.functional import cross_entropy

from pseudolabel import ClusterHeads, Selection, soft_contrastive_loss


@pytest.fixture
def logits():
    return torch.randn(2, 5, 3)


@pytest.fixture
def entries():
    labels = torch.tensor([[0, 1, 2, -1, 1], [2, 2, 0, 1, -1]])
    ids = torch.tensor([[4, 5, 6, -1, 4], [0, 1, 2, 3, -1]])
    return Entries(labels, torch.rand(2, 5), ids)


@pytest.mark.parametrize(("name", "temperature"), [("ce", 1.0), ("tce", 0.2)])
def test_cross_entropy_skips_free_places(logits, entries, name, temperature):
    losses = head_loss(name, LossSettings())(logits, entries)
    for head in range(2):
        taken = entries.labels[head] >= 0
        expected = cross_entropy(logits[head, taken] / temperature, entries.labels[head, taken])
        torch.testing.assert_close(losses[head], expected)


@pytest.mark.parametrize(
    ("name", "confident", "negatives"),
    [("scl", True, True), ("scl-1", False, False), ("scl-2", True, False), ("scl-3", False, True)],
)
@pytest.mark.parametrize("kind", ["one_minus", "paper"])
def test_the_parts_of_the_contrastive_loss(logits, entries, name, confident, negatives, kind):
    losses = head_loss(name, LossSettings(scl_confidence=kind))(logits, entries)
    confidence = entries.confidence if kind == "one_minus" else 1 - entries.confidence
    expected = soft_contrastive_loss(
        logits.softmax(-1),
        entries.labels,
        confidence if confident else None,
        negatives=negatives,
        sample_ids=entries.sample_ids,
    )
    torch.testing.assert_close(losses, expected)


def test_copies_of_a_sample_are_not_each_others_negatives(logits, entries):
    apart = Entries(entries.labels, entries.confidence, torch.arange(10).view(2, 5))
    loss = head_loss("scl", LossSettings())
    assert not torch.isclose(loss(logits, entries)[0], loss(logits, apart)[0])


def test_scan_by_its_formula():
    images, view = load_digits().images[:12], digit_views().clean
    encoder = Encoder(make_backbone("convnet-8", 1, width=2), None)
    fabric = Fabric(accelerator="cpu", devices=1)
    embeddings = in_eval_mode(fabric, encoder, images, view)
    settings = HeadSettings(batch_size=4, repeats=2, entropy=5.0)
    task = NeighborTask(
        images, embeddings, settings, num_classes=10, neighbors=3, clean=view, learn_view=view
    )
    heads = ClusterHeads(2, encoder.out_features, 10)
    learner = Learner(fabric, encoder, heads, joint=False)

    batches = list(task.batches(learner))
    assert len(batches) == task.steps == 6
    look, positions = batches[0]
    for anchor, neighbor in zip(*positions.chunk(2), strict=True):
        assert neighbor in task.neighbors[anchor]
    probs = heads(look(positions)).softmax(-1).detach()
    losses = task.loss(learner, batches[0])
    for head in range(2):
        dots = [float(probs[head, i] @ probs[head, i + 4]) for i in range(4)]
        mean = probs[head, :4].mean(0)
        entropy = -float((mean * mean.log()).sum())
        expected = -sum(map(math.log, dots)) / 4 - 5 * entropy
        assert losses[head].item() == pytest.approx(expected, rel=1e-4)

    probs = learner.logits(images, view).softmax(-1)
    for head, loss in enumerate(task.judge(learner)):
        pairs = [(i, j) for i in range(12) for j in task.neighbors[i].tolist()]
        dots = [float(probs[head, i] @ probs[head, j]) for i, j in pairs]
        mean = probs[head].mean(0)
        entropy = -float((mean * mean.log()).sum())
        expected = -sum(map(math.log, dots)) / len(dots) - 5 * entropy
        assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_scan_weighs_every_class_alike():
    targets, weights = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([1.0, 1, 1, 1, 0])
    balanced = scan.balanced(Selection(targets, weights), 4)
    torch.testing.assert_close(balanced, torch.tensor([5 / 6, 5 / 6, 5 / 6, 5 / 2, 0]))
    nothing = scan.balanced(Selection(targets, torch.zeros(5)), 4)
    assert torch.equal(nothing, torch.zeros(5))


@pytest.mark.parametrize("loss", ["ce", "scl"])
def test_self_labelling_learns_confident_predictions_alone(loss):
    consistency = scan.SelfLabelling(scan.Settings(loss=loss))
    probs = torch.tensor([[0.995, 0.005], [0.6, 0.4], [0.002, 0.998]])
    logits = torch.randn(3, 2, requires_grad=True)
    consistency(probs, logits).backward()
    assert (logits.grad.abs().sum(1) > 0).tolist() == [True, False, True]
    assert consistency(probs[1:2], logits[1:2]) == 0
