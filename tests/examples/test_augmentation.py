"""What holds for every view of every data set."""

import pytest
import torch
from common.augmentation import View, colour_views, digit_views, grey_views, views_for
from common.augmentation.recipes import FASHION_MNIST_MEAN, FASHION_MNIST_STD
from common.data import load_digits
from common.data.idx import DEBIAN_ROOT, read_fashion_mnist

# Name: size, channels, mean, deviation.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SETS = {
    "digits": (8, 1, (0.0,), (1.0,)),
    "fashion-mnist": (28, 1, FASHION_MNIST_MEAN, FASHION_MNIST_STD),
    "cifar10": (32, 3, *IMAGENET),
    "tiny-imagenet": (64, 3, *IMAGENET),
    "stl10": (96, 3, *IMAGENET),
    "folder": (10, 1, (0.449,), (0.226,)),
}
RANDOM = ["contrastive", "weak", "strong", "joint_strong"]


@pytest.fixture(params=SETS)
def name(request):
    return request.param


@pytest.fixture
def views(name):
    size, channels, *_ = SETS[name]
    return views_for(name, size=size, channels=channels)


@pytest.fixture
def images(name):
    """Smooth pictures, as photographs are: noise would come out of a blur as plain grey."""
    size, channels, *_ = SETS[name]
    if name == "digits":
        return load_digits().images[:24]
    coarse = torch.rand(24, channels, 5, 5, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return (smooth * 255).to(torch.uint8)


def normalised(images, name):
    _, channels, mean, std = SETS[name]
    mean, std = (torch.tensor(values).view(1, channels, 1, 1) for values in (mean, std))
    return (images.float() / 255 - mean) / std


def test_the_clean_view_only_scales_and_normalises(images, name, views):
    torch.testing.assert_close(views.clean(images), normalised(images, name))
    assert torch.equal(View()(images), images.float() / 255)


@pytest.mark.parametrize("kind", RANDOM)
def test_every_sample_is_augmented_by_itself(images, views, kind):
    copies = images[:1].expand(128, -1, -1, -1)
    drawn = getattr(views, kind)(copies).flatten(1).unique(dim=0)
    # A flip and a crop of a small picture leave few possibilities, most of which are to be seen.
    side = images.shape[-1]
    possible = 2 * (2 * min(4, side // 8) + 1) ** 2 if kind == "weak" else 128
    assert len(drawn) > min(possible, 128) / 2


@pytest.mark.parametrize("kind", RANDOM)
def test_no_sample_changes_another(images, views, kind):
    changed = images.clone()
    changed[5] = 255 - changed[5]
    drawn = []
    for batch in (images, changed):
        torch.manual_seed(3)
        drawn.append(getattr(views, kind)(batch))
    others = torch.arange(len(images)) != 5
    torch.testing.assert_close(drawn[0][others], drawn[1][others])
    assert not torch.equal(drawn[0][5], drawn[1][5])


@pytest.mark.parametrize("kind", RANDOM)
def test_the_seed_decides(images, views, kind):
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(getattr(views, kind)(images))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("kind", ["clean", *RANDOM])
def test_views_are_float_images_of_the_same_shape_in_range(images, name, views, kind):
    before = images.clone()
    drawn = getattr(views, kind)(images)
    assert drawn.shape == images.shape
    assert drawn.dtype == torch.float32
    assert not drawn.requires_grad
    black, white = (normalised(torch.full_like(images, value), name) for value in (0, 255))
    assert (drawn >= black - 1e-4).all()
    assert (drawn <= white + 1e-4).all()
    assert torch.equal(images, before)


@pytest.mark.parametrize("kind", ["clean", *RANDOM])
def test_views_are_drawn_where_the_images_are(device, kind):
    images = torch.zeros(16, 3, 32, 32, dtype=torch.uint8, device=device)
    drawn = getattr(views_for("cifar10", size=32, channels=3), kind)(images)
    assert drawn.device == images.device
    assert drawn.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["clean", *RANDOM])
def test_no_images_have_no_views(views, name, kind):
    size, channels, *_ = SETS[name]
    none = torch.zeros(0, channels, size, size, dtype=torch.uint8)
    assert getattr(views, kind)(none).shape == none.shape


def test_a_data_set_of_unknown_name_is_treated_by_its_channels():
    assert views_for("mine", size=32, channels=3).weak(torch.zeros(2, 3, 32, 32)).shape[1] == 3
    assert views_for("mine", size=40, channels=1).weak(torch.zeros(2, 1, 40, 40)).shape[1] == 1
    with pytest.raises(ValueError, match=r"^channels: expected 1 or 3, got 4"):
        views_for("mine", size=32, channels=4)


def test_weak_views_are_flips_and_crops_of_the_padded_image():
    images = torch.arange(1, 257).clamp(max=255).to(torch.uint8).view(1, 1, 16, 16)
    grey = grey_views(16)
    padded = torch.nn.functional.pad(images.float() / 255, (2, 2, 2, 2))
    possible = padded.unfold(2, 16, 1).unfold(3, 16, 1).reshape(-1, 16, 16)
    possible = torch.cat([possible, possible.flip(2)])
    *flip_and_crop, _ = grey.weak.augmentations
    drawn = View(*flip_and_crop)(images.expand(200, -1, -1, -1))[:, 0]
    distance = (drawn.flatten(1)[:, None] - possible.flatten(1)).abs().amax(2)
    assert distance.amin(1).max() < 1e-5
    assert len(distance.argmin(1).unique()) > 40  # of 50


def test_a_strong_view_is_cut_after_the_normalisation_and_a_joint_one_before():
    """So the square is grey of the mean in the one, and of the middle of the range in the other."""
    views = grey_views(32)
    white = torch.full((400, 1, 32, 32), 255, dtype=torch.uint8)
    assert (views.strong(white) == 0).flatten(1).any(1).all()
    joint = views.joint_strong(white)
    middle = torch.isclose(joint, torch.tensor((0.5 - 0.449) / 0.226)).flatten(1).any(1)
    assert middle.float().mean() > 0.9  # the crop that follows may lose a small square


def test_digits_keep_the_views_they_had():
    views = digit_views()
    assert views_for("digits", size=8, channels=1)._fields == views._fields
    assert views.joint_strong is views.strong


@pytest.mark.skipif(not DEBIAN_ROOT.is_dir(), reason=f"needs Fashion-MNIST in {DEBIAN_ROOT}")
def test_fashion_mnist_is_normalised_by_its_own_statistics():
    pixels = read_fashion_mnist(DEBIAN_ROOT, ("train",)).images.double() / 255
    assert (pixels.mean().item(), pixels.std().item()) == pytest.approx(
        (*FASHION_MNIST_MEAN, *FASHION_MNIST_STD), abs=5e-5
    )


@pytest.mark.parametrize(("size", "largest"), [(32, 16), (64, 32), (96, 32), (224, 32)])
def test_strong_views_have_the_numbers_of_the_published_code(size, largest):
    views = colour_views(size)
    _, self_operations, _, self_cutout = views.strong.augmentations
    joint_operations, joint_cutout, *_ = views.joint_strong.augmentations
    for operations, count, shift in ((self_operations, 4, 0.1), (joint_operations, 3, 0.3)):
        assert operations.count == count
        moved = operations.operations[10](torch.ones(1, 1, 20, 20), torch.ones(1))
        assert (moved == 0).float().mean() == pytest.approx(shift)
    assert (self_cutout.largest, self_cutout.value) == (largest, 0)
    assert (joint_cutout.largest, joint_cutout.value) == (size // 2, 0.5)


def test_a_contrastive_crop_shows_a_fifth_to_all_of_an_image():
    ramp = torch.linspace(0, 1, 32)
    images = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), ramp.expand(32, 32)])
    crop = colour_views(32).contrastive.augmentations[0]
    shown = crop(images.expand(1000, -1, -1, -1)).flatten(2)
    width, height, _ = (shown.amax(2) - shown.amin(2)).unbind(1)
    assert 0.15 < (width * height).min() < 0.25
    assert (width * height).max() > (30 / 31) ** 2 - 1e-4  # all of it, to the pixel
    assert 0.7 < (width / height).min() < 0.85
    assert 1.2 < (width / height).max() < 1.45
