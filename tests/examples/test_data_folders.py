"""Folders of images: class folders, flat, divided into parts; what the images become."""

import io
import os
import shutil

import numpy as np
import pytest
import torch
from common.data import load
from PIL import Image


def write(path, colour=(0, 0, 0), size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


@pytest.fixture
def classes(tmp_path):
    """Red cats and blue dogs, one of them in a folder of its own; a fish that nobody asked for."""
    root = tmp_path / "animals"
    for number in range(4):
        write(root / "cat" / f"{number}.png", (200 + number, 0, 0))
        write(
            root / "dog" / ("deeper" if number else "") / f"{number}.JPEG", (0, 0, 250), quality=95
        )
    (root / "notes.txt").write_text("no image")
    (root / "cat" / "Thumbs.db").write_text("no image")
    write(root / ".hidden" / "0.png")
    write(root / "dog" / ".ipynb_checkpoints" / "0-checkpoint.png")
    write(root / "cat" / "._0.png")
    return root


@pytest.fixture
def flat(tmp_path):
    for number in range(6):
        write(tmp_path / "flat" / f"{number}.png", (40 * number, 0, 0))
    return tmp_path / "flat"


def test_class_folders_give_truth(classes):
    data = load("folder", root=classes, size=8)
    assert data.images.shape == (8, 3, 8, 8)
    assert (data.num_classes, data.class_names) == (2, ("cat", "dog"))
    red = data.images[:, 0].float().mean((1, 2)) > 100
    assert torch.equal(data.truth, (~red).long())
    for file, label in zip(data.files, data.truth, strict=True):
        assert data.class_names[label] in file.parts


def test_the_class_does_not_decide_the_order_which_is_always_the_same(classes):
    first, second = (load("folder", root=classes, size=8) for _ in range(2))
    assert first.files == second.files
    assert first.truth.tolist() != sorted(first.truth.tolist())
    assert first.truth.tolist() != sorted(first.truth.tolist(), reverse=True)


def test_a_link_that_leads_nowhere_is_named(classes):
    (classes / "dog" / "3.png").symlink_to("gone.png")  # where another class has that name, too
    with pytest.raises(FileNotFoundError, match=r"dog/3\.png: expected an image, found a link"):
        load("folder", root=classes, size=8)


def test_a_name_that_cannot_be_written_down_is_named_at_once(classes):
    try:
        (classes / "cat" / "0.png").rename(os.fsdecode(bytes(classes / "cat") + b"/\xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(ValueError, match=r"cat/\\xff\.png': expected a file name in UTF-8"):
        load("folder", root=classes, size=8)


LAYOUTS = {
    "other names of classes": lambda i: f"{'wolf' if i < 4 else 'ape'}/{i}.png",
    "other members": lambda i: f"{'dog' if i % 3 else 'cat'}/{i}.png",
    "no classes": lambda i: f"{i}.png",
    "names that say nothing": lambda i: f"{'cat' if i < 4 else 'dog'}/{i}/image.png",
    "the same, dealt anew": lambda i: f"{'dog' if i % 3 else 'cat'}/{i}/image.png",
}


def laid_out(root, place):
    for i in range(8):
        write(root / place(i), (30 * i, 0, 0))
    return load("folder", root=root, size=8, num_classes=2).images[:, 0, 0, 0].tolist()


def test_class_folders_or_none_leave_the_order_as_it_is(tmp_path):
    *named, nameless, again = (laid_out(tmp_path / name, place) for name, place in LAYOUTS.items())
    assert named[0] == named[1] == named[2] != sorted(named[0])
    assert nameless == again != sorted(nameless)


def test_a_flat_folder_has_no_truth(flat):
    data = load("folder", root=flat, size=8, num_classes=3)
    assert (data.truth, data.num_classes, data.class_names) == (None, 3, ())
    red = [40 * int(file.stem) for file in data.files]
    assert data.images[:, 0, 0, 0].tolist() == red
    assert sorted(red) == [0, 40, 80, 120, 160, 200]


def test_a_flat_folder_does_not_tell_the_number_of_clusters(flat):
    with pytest.raises(ValueError, match=r"^num_classes: expected a number .* tells no classes"):
        load("folder", root=flat)


def test_one_class_is_nothing_to_find(classes):
    shutil.rmtree(classes / "dog")
    with pytest.raises(ValueError, match=r"^num_classes: expected at least 2 for folder, got 1"):
        load("folder", root=str(classes))


def test_another_number_of_clusters_than_of_classes_may_be_asked_for(classes):
    data = load("folder", root=classes, num_classes=5)
    assert data.num_classes == 5
    assert data.truth.max() == 1


@pytest.mark.parametrize("test_part", ["test", "val"])
def test_folders_of_parts_are_joined_or_kept_apart(classes, tmp_path, test_part):
    root = tmp_path / "divided"
    root.mkdir()
    classes.rename(root / "train")
    write(root / test_part / "cat" / "new.png", (220, 0, 0))
    write(root / test_part / "dog" / "new.png", (0, 0, 220))
    split = load("folder", root=root, protocol="split", size=8)
    assert (len(split.images), len(split.held_out.images)) == (8, 2)
    assert split.held_out.truth.tolist() == [
        int(file.parent.name == "dog") for file in split.held_out.files
    ]
    whole = load("folder", root=root, size=8)
    assert torch.equal(whole.images, torch.cat([split.images, split.held_out.images]))
    assert whole.truth.tolist() == split.truth.tolist() + split.held_out.truth.tolist()


def test_the_split_protocol_needs_the_folders_of_the_parts(classes):
    with pytest.raises(
        FileNotFoundError, match="expected the folders train and test or val, found"
    ):
        load("folder", root=classes, protocol="split")


@pytest.mark.parametrize("protocol", ["whole", "split"])
def test_a_train_folder_alone_lacks_its_test_folder(classes, tmp_path, protocol):
    root = tmp_path / "divided"
    root.mkdir()
    classes.rename(root / "train")
    with pytest.raises(FileNotFoundError, match=f"^{root}/test: expected a folder of images"):
        load("folder", root=root, protocol=protocol)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "car"):
        write(tmp_path / name / "0.png")
    assert load("folder", root=tmp_path).class_names == ("car", "train")


def test_parts_must_have_the_same_classes(tmp_path):
    for place in ("train/a", "train/b", "test/a", "test/c"):
        write(tmp_path / place / "0.png")
    for protocol in ("whole", "split"):
        with pytest.raises(ValueError, match=r"without \['b'\] and with \['c'\]"):
            load("folder", root=tmp_path, protocol=protocol)


def test_two_test_parts_are_one_too_many(tmp_path):
    for place in ("train/a", "test/a", "val/a"):
        write(tmp_path / place / "0.png")
    with pytest.raises(ValueError, match="expected one folder of test and val, found both"):
        load("folder", root=tmp_path)


@pytest.mark.parametrize(
    ("files", "folders", "message"),
    [
        ([], [], "expected images or class folders, found neither"),
        (["a.png"], ["b"], "found both: the image a.png beside the folder b"),
        ([], ["b"], r"b: expected images \(.bmp, .gif, .*\) of a class, found none"),
    ],
)
def test_a_folder_that_cannot_be_understood_is_named(tmp_path, files, folders, message):
    for name in files:
        write(tmp_path / name)
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"^{tmp_path}.*{message}"):
        load("folder", root=tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/none: expected a folder of images"):
        load("folder", root=tmp_path / "none")


def test_the_shorter_side_is_scaled_and_the_middle_kept(tmp_path):
    # Three squares side by side: red, green, blue.
    wide = np.zeros((10, 30, 3), np.uint8)
    for third in range(3):
        wide[:, 10 * third : 10 * third + 10, third] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "high.png")
    images = load("folder", root=tmp_path, size=5, num_classes=2).images
    green = torch.tensor([0, 255, 0], dtype=torch.uint8).view(3, 1, 1).expand(2, 3, 3, 3)
    # The outermost pixels blend with their neighbours in the picture.
    assert torch.equal(images[:, :, 1:-1, 1:-1], green)


def test_channels_follow_the_height_and_width_of_the_picture(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    images = load("folder", root=tmp_path, size=6, num_classes=2).images
    assert torch.equal(images[0].permute(1, 2, 0), torch.from_numpy(picture))
    grey = load("folder", root=tmp_path, size=6, num_classes=2, channels=1).images
    assert torch.equal(
        grey[0, 0], torch.from_numpy(np.array(Image.fromarray(picture).convert("L")))
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_format_of_eight_bits_becomes_colour(tmp_path, mode):
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(tmp_path / "a.tif")
    images = load("folder", root=tmp_path, size=4, num_classes=2).images
    assert images.shape == (1, 3, 4, 4)
    assert (images > 250).all()


def test_a_photograph_is_turned_upright(tmp_path):
    picture = Image.new("RGB", (8, 8), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    picture.save(tmp_path / "a.png", exif=exif)
    image = load("folder", root=tmp_path, size=8, num_classes=2).images[0, 0]
    assert (image[:, :4] == 0).all()
    assert (image[:, 4:] == 255).all()


def jpeg() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot identify"), (b"no image", "cannot identify"), (jpeg()[:-300], "truncated")],
)
def test_a_broken_image_is_named(classes, content, message):
    path = classes / "dog" / "deeper" / "2.JPEG"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: expected a whole image .* found: .*{message}"):
        load("folder", root=classes)


def test_sixteen_bits_are_not_squeezed_into_eight(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected a whole image of 8 bits .* I;16"):
        load("folder", root=tmp_path, num_classes=2)


def test_cached_images_are_mapped_and_read_alike(classes, tmp_path):
    cache = tmp_path / "deep" / "cache"
    batch = torch.tensor([5, 0, 5])
    expected = load("folder", root=classes, size=7)
    for _ in range(2):
        data = load("folder", root=classes, size=7, cache=cache)
        assert torch.equal(data.images[batch], expected.images[batch])
        assert torch.equal(data.images, expected.images)
        assert data.truth.tolist() == expected.truth.tolist()
        assert len(list(cache.iterdir())) == 1


def test_cached_images_are_decoded_once_until_a_file_or_the_size_changes(classes, tmp_path):
    def first_cat():
        data = load("folder", root=classes, size=8, cache=tmp_path / "cache")
        return data.images[data.files.index(path), 0, 0, 0]

    path = classes / "cat" / "0.png"
    assert first_cat() == 200
    written = next((tmp_path / "cache").iterdir()).stat().st_mtime_ns
    first_cat()
    assert next((tmp_path / "cache").iterdir()).stat().st_mtime_ns == written
    write(path, (90, 0, 0))
    os.utime(path, (1, 1))
    assert first_cat() == 90
    load("folder", root=classes, size=9, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_failed_decoding_leaves_nothing_behind(classes, tmp_path):
    (classes / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.png"):
        load("folder", root=classes, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:90]])
def test_a_damaged_cache_is_named(classes, tmp_path, damage):
    load("folder", root=classes, cache=tmp_path / "cache")
    file = next((tmp_path / "cache").iterdir())
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=f"^{file}: expected decoded images, found: .*; delete"):
        load("folder", root=classes, cache=tmp_path / "cache")


def test_a_cache_of_another_shape_is_named(classes, tmp_path):
    load("folder", root=classes, cache=tmp_path / "cache")
    file = next((tmp_path / "cache").iterdir())
    np.save(file, np.zeros((8, 3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"expected uint8 \(8, 3, 32, 32\), found uint8 \(8, 3, 4"):
        load("folder", root=classes, cache=tmp_path / "cache")
