"""What holds for every data set, tried on digits and on small folders."""

import pytest
import torch
from common.data import SOURCES, ImageData, load, load_digits


def test_digits_come_with_the_package():
    data = load("digits")
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.images.dtype == torch.uint8
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert data.truth.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.equal(data.images, load_digits().images)


def test_the_number_of_clusters_is_free_and_leaves_the_truth_alone():
    data = load("digits", num_classes=25)
    assert data.num_classes == 25
    assert torch.equal(data.truth, load_digits().truth)


def test_without_truth_nothing_is_left_that_tells_a_class(tmp_path):
    held_out = ImageData("b", torch.zeros(1), 2, torch.ones(1), None, None, ("x",), (tmp_path,))
    data = held_out._replace(name="a", held_out=held_out, unlabelled=torch.zeros(3))
    blind = data.without_truth()
    for shown in (blind, blind.held_out):
        assert (shown.truth, shown.class_names, shown.files) == (None, (), ())
    assert blind.unlabelled is data.unlabelled
    assert blind.images is data.images
    assert data.truth is not None
    assert data._replace(held_out=None).without_truth().held_out is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist"}, "name: expected one of digits, fashion-mnist, cifar10, .*got 'mnist'"),
        ({"protocol": "train"}, "protocol: expected 'whole' or 'split', got 'train'"),
        ({"protocol": "split"}, "protocol: expected 'whole' for digits, which has no test part"),
        ({"unlabelled": True}, "unlabelled: expected False for digits"),
        ({"size": 16}, "size: expected None for digits, whose images are read as .* got 16"),
        ({"channels": 3}, "channels: expected None for digits"),
        ({"cache": "x"}, "cache: expected None for digits"),
        ({"num_classes": 1}, "num_classes: expected at least 2 for digits, got 1"),
        ({"num_classes": 0}, "num_classes: expected at least 2 for digits, got 0"),
        ({"name": "cifar10"}, "root: expected the folder of the files of cifar10, got None"),
        ({"name": "folder", "root": "x", "size": 0}, "size: expected at least 1, got 0"),
        ({"name": "folder", "root": "x", "channels": 2}, "channels: expected 1 or 3, got 2"),
    ],
)
def test_arguments_that_do_not_suit_the_data_set_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        load(**{"name": "digits", **arguments})


def test_all_data_sets_of_the_papers_are_there():
    papers = {"cifar10", "cifar100-20", "stl10", "imagenet-10", "imagenet-dogs-15", "tiny-imagenet"}
    assert papers <= set(SOURCES)
