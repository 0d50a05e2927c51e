import pytest
import torch
from common.augmentation import View, digit_views
from common.data import load_digits

RANDOM = ["contrastive", "weak", "strong"]


@pytest.fixture(scope="module")
def digits():
    return load_digits().images


def test_the_clean_view_only_scales(digits):
    assert torch.equal(View()(digits), digits.float() / 255)


@pytest.mark.parametrize("name", RANDOM)
def test_every_sample_is_augmented_by_itself(digits, name):
    copies = digits[:1].expand(32, -1, -1, -1)
    views = getattr(digit_views(), name)(copies)
    assert len(views.flatten(1).unique(dim=0)) == 32


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_decides(digits, name):
    view = getattr(digit_views(), name)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(view(digits[:16]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", RANDOM)
def test_views_are_float_images_of_the_same_shape_in_range(digits, name):
    images = digits[:16].clone()
    views = getattr(digit_views(), name)(images)
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert 0 <= views.min() <= views.max() <= 1
    assert torch.equal(images, digits[:16])
