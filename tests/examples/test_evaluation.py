import pytest
import torch
from common.evaluation import MAPPED, Scoreboard, Snapshot, kmeans_on_sphere


def test_a_stage_is_scored_against_the_truth():
    board = Scoreboard(torch.tensor([0, 0, 1, 1]))
    with board.stage("swapped") as result:
        result.clusters = torch.tensor([1, 1, 0, 1])
        result.reliable = torch.tensor([True, True, True, False])
    score = board.scores[0]
    assert score.accuracy == pytest.approx(0.75)
    assert score.reliable == 3
    assert score.reliable_accuracy == 1
    assert score.seconds >= 0
    assert "swapped" in str(board)
    assert "0.7500" in str(board)


def test_nothing_reliable_has_no_accuracy():
    board = Scoreboard(torch.tensor([0, 1]))
    with board.stage("none") as result:
        result.clusters = torch.tensor([1, 0])
        result.reliable = torch.tensor([False, False])
    assert board.scores[0].reliable == 0
    assert board.scores[0].reliable_accuracy is None


def test_without_truth_only_the_counts_are_known():
    board = Scoreboard(None)
    with board.stage("a stage") as result:
        result.clusters = torch.tensor([1, 0])
        result.reliable = torch.tensor([True, False])
    assert board.scores[0][:4] == ("a stage", None, None, None)
    assert board.scores[0].reliable == 1
    assert "a stage" in str(board)


def test_kmeans_on_the_sphere_ignores_lengths():
    features = torch.tensor([[1.0, 0.0], [9.0, 0.1], [0.0, 1.0], [0.1, 7.0]])
    labels = kmeans_on_sphere(features, 2, seed=0).tolist()
    assert labels[0] == labels[1] != labels[2] == labels[3]


def test_a_snapshot_keeps_little_of_many_images():
    logits = torch.randn(2, 7001, 3)
    snapshot = Snapshot.of(4, logits, None)
    assert torch.equal(snapshot.clusters, logits.argmax(-1))
    assert torch.equal(snapshot.sample, logits[:, ::3])
    assert snapshot.sample.shape[1] <= MAPPED


def test_a_stage_may_find_no_clusters():
    board = Scoreboard(torch.tensor([0, 1]))
    with board.stage("nothing"):
        pass
    assert board.scores[0].accuracy is None
    assert "nothing" in str(board)


def test_held_out_images_are_scored_by_their_own_truth():
    board = Scoreboard(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0]))
    with board.stage("a stage") as result:
        result.clusters = torch.tensor([1, 1, 0, 0])
        result.held_out = torch.tensor([1, 0, 0])
    assert board.scores[0].accuracy == 1
    assert board.scores[0].held_out[0] == pytest.approx(2 / 3)
    assert "held-out ACC" in str(board)


def test_a_snapshot_keeps_no_more_than_it_shows():
    logits = torch.randn(2, 7000, 5)
    moment = Snapshot.of(1, logits, None)
    assert torch.equal(moment.sample, logits[:, ::3])
    assert moment.sample.untyped_storage().nbytes() == 4 * moment.sample.numel()
    assert moment.clusters.dtype == torch.int16
    assert torch.equal(moment.clusters, logits.argmax(-1))
    many = torch.zeros(1, 3, 2**15 + 1)
    many[..., -1] = 1
    assert (Snapshot.of(1, many, None).clusters.long() == 2**15).all()


@pytest.mark.parametrize("truth", [[2, 2, -1, 2, 2, 2], [0, 0, 0, 0, 0, 1]])
def test_of_one_class_there_is_no_probe(truth):
    board = Scoreboard(torch.tensor(truth))
    with board.stage("x") as result:
        result.features, result.clusters = torch.randn(6, 3), torch.zeros(6).long()
    assert board.scores[0].probe is None
    assert board.scores[0].accuracy > 0.8
