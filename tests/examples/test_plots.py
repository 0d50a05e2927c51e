from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from common.attention import attention, attention_maps
from common.backbones import make_backbone
from common.curves import confusion_matrix, head_curves, joint_curve
from common.evaluation import Score, Snapshot
from common.network import Encoder
from common.plots import embedding_map, prototype_images, ratio_histogram, training_maps
from common.report import closest, names_below


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pictures_draw(tmp_path, channels):
    images = torch.randint(256, (60, channels, 8, 8), dtype=torch.uint8)
    labels = torch.arange(60) % 3  # of four clusters one is empty
    members = torch.arange(8).view(4, 2)
    members[3] = -1
    ratio = torch.arange(60).double() / 59
    figures = [
        prototype_images(images, members),
        embedding_map(torch.randn(60, 5), labels, ratio > 0.5, images, members, seed=0),
        ratio_histogram(ratio, ratio > 0.5),
        confusion_matrix([[9, 2], [0, 7], [1, 1]], [1, 0], ["cat", "dog", "fish"]),
    ]
    for index, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{index}.png", dpi=30)


def test_one_point_is_mapped_to_one_point(tmp_path):
    images, members = torch.zeros(60, 1, 8, 8, dtype=torch.uint8), torch.zeros(3, 1).long()
    same, labels = torch.ones(60, 5), torch.zeros(60).long()
    embedding_map(same, labels, labels == 0, images, members, seed=0).savefig(tmp_path / "a.png")
    moments = [Snapshot.of(after, torch.zeros(1, 60, 3), None) for after in range(2)]
    figure = training_maps(moments, 0, seed=0)
    figure.savefig(tmp_path / "b.png")
    assert all((axis.collections[0].get_offsets() == 0).all() for axis in figure.axes)


@pytest.mark.parametrize(("clusters", "pixels"), [(2, 28), (10, 28), (40, 14)])
def test_the_images_of_many_clusters_are_smaller(clusters, pixels):
    images, labels = torch.zeros(80, 1, 8, 8, dtype=torch.uint8), torch.arange(80) % clusters
    members = torch.arange(clusters).unsqueeze(1)
    figure = embedding_map(torch.randn(80, 5), labels, labels > 0, images, members, seed=0)
    zooms = [shown.offsetbox.get_zoom() for shown in figure.axes[0].artists]
    assert zooms == [pixels / 8] * clusters


def test_a_cluster_has_one_colour_in_all_maps():
    logits = torch.eye(4).repeat_interleave(15, dim=0) + 0.01 * torch.randn(60, 4)
    logits[:, 0] -= 9  # its samples fall to others, and colours stay
    moments = [Snapshot.of(after, logits.roll(after, 1)[None], None) for after in range(2)]
    expected = [moment.clusters[0] for moment in moments]
    colours = mpl.colormaps["tab10"]
    for axis, clusters in zip(training_maps(moments, 0, seed=0).axes, expected, strict=True):
        assert np.allclose(axis.collections[0].get_facecolors(), colours(clusters.numpy()))


def test_one_ratio_for_all_draws(tmp_path):
    ones = torch.ones(5)
    ratio_histogram(ones, ones > 0.95).savefig(tmp_path / "ones.png", dpi=30)


def test_an_empty_cluster_has_a_name_and_no_image():
    images = torch.randint(256, (60, 1, 8, 8), dtype=torch.uint8)
    figure = prototype_images(images, torch.tensor([[3, 4], [7, -1], [-1, -1]]))
    (axis,) = figure.axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["0", "1", "2 (empty)"]
    assert len(axis.images) == 3


def test_the_histogram_has_those_that_are_reliable_and_not_all_above_a_ratio():
    ratio = torch.tensor([0.5, 0.5, 1.0, 1.0, 1.0])
    reliable = torch.tensor([True, False, True, False, True])
    (axis,) = ratio_histogram(ratio, reliable).axes
    every, kept = ([bar.get_height() for bar in bars] for bars in axis.containers)
    assert (every, kept) == ([2, 3], [1, 2])
    assert axis.get_title() == "3 of 5 labels of stage 2 are reliable"


def test_rounds_and_steps_are_whole():
    history = [{"after": n, "losses": [1 - n / 2, 1.0], "accuracies": [0.5, 0.6]} for n in (0, 1)]
    score = Score("2", None, None, None, 1.0, None, None, history=history)
    for axis in head_curves([score]).axes + joint_curve(history).axes:
        assert all(tick == round(tick) for tick in axis.get_xticks())


def test_a_flat_map_makes_a_flat_picture(monkeypatch):
    images = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    labels, members = torch.arange(40) % 2, torch.arange(4).view(2, 2)
    heights = {}
    for shape in (0.5, 1.0):
        places = torch.rand(40, 2).numpy() * (1, shape)
        monkeypatch.setattr("common.plots._tsne", lambda rows, seed, places=places: places)
        options = (labels, labels > 0, images, members)
        heights[shape] = embedding_map(torch.randn(40, 3), *options, seed=0).get_figheight()
    assert heights[0.5] < 0.7 * heights[1.0]


def test_columns_of_the_confusion_matrix_are_named_by_their_clusters():
    axis = confusion_matrix([[9, 2], [0, 7], [1, 1]], [1, 0], ["cat", "dog", "fish"]).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog", "fish"]


def test_the_closest_images_of_a_cluster_are_its_own():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 1.5])
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([0, 0, 1, 0, 0])
    probs = torch.nn.functional.one_hot(labels, 3).float()
    members = closest(rows, probs, labels)
    assert members[1].tolist() == [2, -1, -1, -1, -1]
    assert members[2].tolist() == [-1] * 5
    assert sorted(members[0].tolist()) == [-1, 0, 1, 3, 4]


def test_rows_are_named_by_their_place_below_the_folder_that_holds_them_all():
    folder = Path("/data/train")
    files = [folder / "cat" / "1.png", folder / "dog" / "1.png", folder / "2.png"]
    assert names_below(files) == ["cat/1.png", "dog/1.png", "2.png"]
    assert names_below(files[:1]) == ["1.png"]
    assert names_below([]) == []


def test_attention_is_highest_where_the_images_are_alike():
    encoder = Encoder(make_backbone("convnet-28", 1, width=4), None).eval()
    views = torch.zeros(3, 1, 28, 28)
    views[:, :, 8:16, 8:16] = 1
    maps = attention(torch.nn.Sequential(encoder), views)
    assert maps.shape == (3, 28, 28)
    assert maps.amin((1, 2)).tolist() == [0, 0, 0]
    torch.testing.assert_close(maps.amax((1, 2)), torch.ones(3))
    torch.testing.assert_close(maps[0], maps[1])


def test_a_row_of_attention_has_the_name_of_its_cluster():
    encoder = Encoder(make_backbone("convnet-28", 1, width=4), None).eval()
    images = torch.randint(256, (9, 1, 28, 28), dtype=torch.uint8)
    members = torch.tensor([[0, 1], [2, -1], [-1, -1]])
    network = torch.nn.Sequential(encoder)
    figure = attention_maps(network, images, members, lambda x: x.float() / 255)
    names = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert names == ["0", "1", "2 (empty)"]
    assert sum(len(axis.images) for axis in figure.axes) == 6


def test_a_map_of_many_images_takes_some_of_them(monkeypatch):
    monkeypatch.setattr("common.plots.MAPPED", 25)
    images = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)
    labels, members = torch.arange(60) % 3, torch.arange(6).view(3, 2)
    options = (labels, labels > 0, images, members)
    figure = embedding_map(torch.randn(60, 5), *options, seed=0)
    assert figure.get_suptitle().endswith("of 20 of 60 images")
