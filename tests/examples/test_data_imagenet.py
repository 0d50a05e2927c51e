"""The subsets of ImageNet, from tiny folders laid out like the real ones."""

import re

import pytest
import torch
from common.data import load
from common.data.imagenet import IMAGENET_10, IMAGENET_DOGS_15
from PIL import Image

SUBSETS = {"imagenet-10": IMAGENET_10, "imagenet-dogs-15": IMAGENET_DOGS_15}
TINY = ("n01443537", "n01629819", "n09246464")


def write(path, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), (colour, colour, colour)).save(path, quality=95)


def test_the_class_lists_are_wordnet_ids_in_order():
    for classes, count in ((IMAGENET_10, 10), (IMAGENET_DOGS_15, 15)):
        assert len(set(classes)) == len(classes) == count
        assert list(classes) == sorted(classes)
        assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in classes)


@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.parametrize("below", ["", "train"])
def test_a_subset_takes_its_classes_out_of_imagenet(tmp_path, name, below):
    for number, wnid in enumerate([*SUBSETS[name], "n00000000", "n99999999"]):
        for image in range(2):
            write(tmp_path / below / wnid / f"{wnid}_{image}.JPEG", 10 * number)
    data = load(name, root=tmp_path, size=6)
    assert data.images.shape == (2 * len(SUBSETS[name]), 3, 6, 6)
    assert data.num_classes == len(SUBSETS[name])
    assert data.class_names == SUBSETS[name]
    colours = data.images[:, 0, 3, 3].int()
    assert ((colours - 10 * data.truth).abs() <= 1).all()
    assert load(name, root=tmp_path).images.shape[2:] == (224, 224)


def test_the_whole_of_a_subset_is_its_train_part_and_the_held_out_part_the_validation(tmp_path):
    for number, wnid in enumerate(IMAGENET_10):
        write(tmp_path / "train" / wnid / "a.JPEG", number)
        write(tmp_path / "val" / wnid / "b.JPEG", 100 + number)
    write(tmp_path / "test" / "c.JPEG")  # without labels, as in ImageNet
    assert len(load("imagenet-10", root=tmp_path, size=4).images) == 10
    data = load("imagenet-10", root=tmp_path, size=4, protocol="split")
    assert {file.name for file in data.files} == {"a.JPEG"}
    assert {file.name for file in data.held_out.files} == {"b.JPEG"}


def test_a_missing_class_is_named(tmp_path):
    for wnid in IMAGENET_10[:-1]:
        write(tmp_path / wnid / "a.JPEG")
    with pytest.raises(FileNotFoundError, match=f"{IMAGENET_10[-1]}: expected a class folder"):
        load("imagenet-10", root=tmp_path)


@pytest.fixture
def tiny(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for number, wnid in enumerate(TINY):
        for image in range(3):
            write(root / "train" / wnid / "images" / f"{wnid}_{image}.JPEG", 10 * number)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t9\t9\n")
    lines = []
    for image, number in enumerate([2, 0, 1, 2]):
        write(root / "val" / "images" / f"val_{image}.JPEG", 100 + 10 * number)
        lines.append(f"val_{image}.JPEG\t{TINY[number]}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    write(root / "test" / "images" / "test_0.JPEG")
    (root / "wnids.txt").write_text("\n".join(TINY))
    return root


def test_tiny_imagenet_reads_the_validation_part_by_its_annotations(tiny):
    data = load("tiny-imagenet", root=tiny.parent, protocol="split")
    assert data.images.shape == (9, 3, 64, 64)
    assert (data.num_classes, data.class_names) == (3, TINY)
    assert ((data.images[:, 0, 9, 9].int() - 10 * data.truth).abs() <= 1).all()
    assert data.held_out.truth.tolist() == [2, 0, 1, 2]
    assert (
        (data.held_out.images[:, 0, 9, 9].int() - data.held_out.truth * 10 - 100).abs() <= 1
    ).all()


def test_the_whole_of_tiny_imagenet_is_both_parts(tiny):
    data = load("tiny-imagenet", root=tiny, size=8)
    split = load("tiny-imagenet", root=tiny, size=8, protocol="split")
    assert torch.equal(data.images, torch.cat([split.images, split.held_out.images]))
    assert torch.equal(data.truth, torch.cat([split.truth, split.held_out.truth]))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("val_0.JPEG\tn00000000\n", "line 1: expected .* one of the 3 classes .* 'val_0.JPEG"),
        (f"val_0.JPEG\t{TINY[0]}\nval_1.JPEG\n", "line 2: expected the name of an image"),
        (f"val_0.JPEG\t{TINY[0]}\n", "found one alone for val_1.JPEG"),
        (
            "".join(f"val_{image}.JPEG\t{TINY[0]}\n" for image in range(5)),
            "found one alone for val_4.JPEG",
        ),
    ],
)
def test_annotations_that_do_not_match_the_images_are_named(tiny, lines, message):
    path = tiny / "val" / "val_annotations.txt"
    path.write_text(lines)
    with pytest.raises(ValueError, match=f"^{path}.*{message}"):
        load("tiny-imagenet", root=tiny)


def test_missing_annotations_are_named(tiny):
    (tiny / "val" / "val_annotations.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"val_annotations\.txt: expected a file with a class"
    ):
        load("tiny-imagenet", root=tiny)


def test_a_flat_train_folder_is_no_tiny_imagenet(tmp_path):
    write(tmp_path / "train" / "a.JPEG")
    with pytest.raises(ValueError, match="train: expected class folders, found images"):
        load("tiny-imagenet", root=tmp_path)
