import pytest
import torch
from common.measures import find, linear_probe


def two_clusters(labels, ratio, truth, num_clusters=2):
    """Ten samples near either axis; probabilities that say the labels."""
    embeddings = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10)
    embeddings = embeddings + 0.01 * torch.arange(20).unsqueeze(1)
    probs = 0.9 * torch.nn.functional.one_hot(labels, num_clusters).float()
    return find(embeddings, probs, labels, ratio, labels, truth)


TRUTH = torch.tensor([1] * 10 + [0] * 10)


def test_without_truth_nothing_is_known():
    labels = torch.arange(20) // 10
    found = two_clusters(labels, torch.ones(20), None)
    assert found[1:] == (None,) * 5


def test_the_most_consistent_labels_come_first():
    labels = torch.arange(20) // 10
    labels[:2] = 1  # two wrong ones, the least consistent
    ratio = torch.arange(20) / 20
    found = two_clusters(labels, ratio, TRUTH)
    kept = [max(1, round(share * 20)) for share in found.shares]
    assert found.consistent == pytest.approx([1 - max(0, count - 18) / count for count in kept])
    assert found.consistent[-1] == pytest.approx(0.9)
    assert found.confusion == [[10, 0], [2, 8]]
    assert found.clusters == [1, 0]
    assert two_clusters(1 - labels, ratio, TRUTH).clusters == [0, 1]


def test_clusters_without_a_class_come_last_and_are_wrong():
    labels = torch.arange(20) // 10
    labels[0] = 2
    found = two_clusters(labels, torch.ones(20), TRUTH, num_clusters=3)
    assert found.confusion == [[10, 0, 0], [0, 9, 1]]
    assert found.consistent[-1] == pytest.approx(19 / 20)


def test_fewer_clusters_than_classes():
    truth = TRUTH.clone()
    truth[:3] = 2
    found = two_clusters(torch.arange(20) // 10, torch.ones(20), truth)
    assert found.confusion == [[10, 0], [0, 7], [0, 3]]
    assert found.consistent[-1] == pytest.approx(17 / 20)


def test_unknown_truth_is_left_out():
    truth = TRUTH.clone()
    truth[:5] = -1
    found = two_clusters(torch.arange(20) // 10, torch.ones(20), truth)
    assert sum(map(sum, found.confusion)) == 15


def test_purity_is_the_share_of_the_most_frequent_class():
    embeddings = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10)
    probs = torch.nn.functional.one_hot(torch.arange(20) // 10, 2).float()
    truth = torch.tensor([1] * 8 + [0] * 2 + [0] * 10)
    found = find(embeddings, probs, probs.argmax(-1), torch.ones(20), probs.argmax(-1), truth)
    assert found.purity[0] == 1
    assert found.purity[-1] == pytest.approx((0.8 + 1) / 2)


def test_purity_is_not_of_clusters_that_are_empty():
    groups = torch.arange(18) // 6
    probs = torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.4, 0.5], [0.0, 0.0, 0.9]])[groups]
    truth = torch.arange(18) % 2
    truth[6:12] = 0  # the samples nearest to the prototype of cluster 1, which is empty
    embeddings, labels = torch.eye(3)[groups], probs.argmax(-1)
    found = find(embeddings, probs, labels, torch.ones(18), labels, truth)
    assert labels.unique().tolist() == [0, 2]
    assert found.purity[-1] == pytest.approx(0.5)


def test_a_linear_probe_sees_what_is_linear():
    truth = torch.arange(100) % 2
    noise = torch.randn(100, 3)
    assert linear_probe(torch.cat([noise, truth.unsqueeze(1).float()], 1), truth) == 1
    assert linear_probe(noise, truth) < 0.8


def test_a_class_of_one_sample_does_not_stop_a_probe():
    truth = torch.arange(100).clamp(max=1)
    truth[50] = 2
    assert linear_probe(torch.randn(100, 3), truth) > 0.5
