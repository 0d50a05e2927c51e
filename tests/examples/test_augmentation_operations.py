"""RandAugment's operations against PIL, how they are drawn, and Cutout."""

import numpy as np
import pytest
import torch
from common.augmentation.operations import Cutout, RandomOperations
from PIL import Image, ImageEnhance, ImageOps

SIZE = 32
NAMES = (
    *("autocontrast", "equalize", "rotate", "solarize", "colour", "contrast", "brightness"),
    *("sharpness", "shear_x", "shear_y", "shift_x", "shift_y", "posterize"),
)
MOVING = ("rotate", "shear_x", "shear_y", "shift_x", "shift_y")
SHIFT = 0.25


@pytest.fixture
def picture():
    coarse = np.random.default_rng(0).integers(30, 200, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def operation(name):
    return RandomOperations(1, SHIFT).operations[NAMES.index(name)]


def moved(picture, a, b, c, d, e, f):
    """PIL's affine map from places in the result, about the middle of the picture."""
    middle = SIZE / 2
    shift = (c + middle - a * middle - b * middle, f + middle - d * middle - e * middle)
    data = (a, b, shift[0], d, e, shift[1])
    return picture.transform(picture.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def by_pil(name, picture, strength):
    """What RandAugment's authors mean, at a strength from 0 to 1."""
    scale, signed = 0.05 + 0.9 * strength, SHIFT * (2 * strength - 1)
    match name:
        case "autocontrast":
            return ImageOps.autocontrast(picture)
        case "equalize":
            return ImageOps.equalize(picture)
        case "solarize":
            return ImageOps.solarize(picture, 255 * strength)
        case "colour":
            return ImageEnhance.Color(picture).enhance(scale)
        case "contrast":
            return ImageEnhance.Contrast(picture).enhance(scale)
        case "brightness":
            return ImageEnhance.Brightness(picture).enhance(scale)
        case "sharpness":
            return ImageEnhance.Sharpness(picture).enhance(scale)
        case "posterize":
            return ImageOps.posterize(picture, min(8, int(4 + 5 * strength)))
        case "shear_x":
            return moved(picture, 1, signed, 0, 0, 1, 0)
        case "shear_y":
            return moved(picture, 1, 0, 0, signed, 1, 0)
        case "shift_x":
            return moved(picture, 1, 0, signed * SIZE, 0, 1, 0)
        case "shift_y":
            return moved(picture, 1, 0, 0, 0, 1, signed * SIZE)
        case "rotate":
            angle = np.radians(30 * (2 * strength - 1))
            cosine, sine = np.cos(angle), np.sin(angle)
            return moved(picture, cosine, -sine, 0, sine, cosine, 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strength", [0.0, 0.45, 0.55, 1.0])
def test_operations_do_what_pil_does(picture, name, strength):
    drawn = operation(name)(tensor(picture), torch.tensor([strength])).clamp(0, 1)
    difference = (drawn - tensor(by_pil(name, picture, strength))).abs() * 255
    if name in MOVING:
        # Along the border of what was moved PIL blends in another way.
        white = Image.new("RGB", picture.size, "white")
        full = tensor(by_pil(name, white, strength)) == 1
        outside = torch.nn.functional.pad(1 - full.float(), (1, 1, 1, 1), value=1.0)
        difference *= 1 - torch.nn.functional.max_pool2d(outside, 3, 1)
        assert full.float().mean() > 0.6
    # PIL rounds, some operations twice.
    assert difference.max() < 2.1


def test_what_is_moved_in_is_black():
    drawn = operation("shift_x")(torch.ones(1, 1, 8, 8), torch.ones(1))
    assert torch.equal(drawn, torch.tensor([1.0, 1, 1, 1, 1, 1, 0, 0]).expand(1, 1, 8, 8))


@pytest.mark.parametrize("name", NAMES)
def test_each_sample_has_its_own_strength(picture, name):
    strengths = torch.tensor([0.1, 0.9, 0.4])
    together = operation(name)(tensor(picture).repeat(3, 1, 1, 1), strengths)
    alone = [operation(name)(tensor(picture), strength[None]) for strength in strengths]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_one_value_stays_in_range_and_finite(name, channels):
    flat = torch.full((2, channels, 8, 8), 0.3)
    drawn = operation(name)(flat, torch.tensor([0.2, 0.8]))
    assert drawn.isfinite().all()
    if name in ("autocontrast", "equalize", "contrast", "colour", "sharpness"):
        torch.testing.assert_close(drawn, flat)


def test_all_fourteen_operations_are_drawn_about_as_often():
    """Each operation of a spy leaves its own number, and the identity leaves nothing."""
    operations = RandomOperations(1, SHIFT)
    assert len(operations.operations) == len(NAMES) == 13
    operations.operations = [
        lambda images, _, number=number: torch.full_like(images, (number + 1) / 100)
        for number in range(13)
    ]
    drawn = operations(torch.zeros(14_000, 1, 1, 1)).mul(100).round().int().flatten()
    assert drawn.bincount().tolist() == pytest.approx([1000] * 14, abs=150)


def test_so_many_operations_are_applied_as_asked_for():
    operations = RandomOperations(4, SHIFT)
    operations.operations = [lambda images, _: images + 0.1] * 13
    drawn = operations(torch.zeros(20_000, 1, 1, 1)).mul(10).round().mean().item()
    assert drawn == pytest.approx(4 * 13 / 14, abs=0.03)


def test_operations_are_drawn_anew_for_each_turn():
    """Each operation appends its own digit, and the identity leaves what there was."""
    operations = RandomOperations(2, SHIFT)
    operations.operations = [
        lambda images, _, number=number: images / 16 + (number + 1) / 16 for number in range(13)
    ]
    drawn = operations(torch.zeros(5_000, 1, 1, 1)).mul(256).round().unique()
    # Pairs, one beside an idle turn, which may be either, and nothing.
    assert len(drawn) == 13 * 13 + 13 + 1


def test_strengths_are_uniform():
    seen = []
    operations = RandomOperations(1, SHIFT)
    operations.operations = [lambda images, strength: seen.append(strength) or images] * 13
    operations(torch.zeros(10_000, 1, 1, 1))
    strengths = torch.cat(seen)
    deciles = torch.histc(strengths, 10, 0, 1) / len(strengths)
    torch.testing.assert_close(deciles, torch.full((10,), 0.1), atol=0.015, rtol=0)


def test_the_images_that_come_in_are_left_alone(picture):
    images = tensor(picture).repeat(32, 1, 1, 1)
    before = images.clone()
    RandomOperations(4, SHIFT)(images)
    assert torch.equal(images, before)


def test_cutout_paints_one_square_of_any_side_around_any_centre():
    images = torch.ones(20_000, 2, 9, 11)
    drawn = Cutout(4, value=0.25)(images)
    hole = drawn == 0.25
    assert torch.equal(hole[:, 0], hole[:, 1])
    assert torch.equal(drawn, images.masked_fill(hole, 0.25))
    rows, columns = hole[:, 0].any(2), hole[:, 0].any(1)
    assert torch.equal(hole[:, 0], rows[:, :, None] & columns[:, None, :])
    # Away from the border the square is whole: each side is seen as often as any other.
    inside = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
    height, width = rows[inside].sum(1), columns[inside].sum(1)
    assert torch.equal(height, width)
    assert set(height.tolist()) == {1, 2, 3, 4}
    assert (drawn != images).flatten(1).any(1).all()
    # A side of 1 to 4 covers each centre alike.
    one = rows.sum(1).eq(1) & columns.sum(1).eq(1) & inside
    places = hole[one, 0].flatten(1).int().argmax(1).unique()
    assert len(places) == 7 * 9


def test_cutout_leaves_the_images_that_come_in_alone():
    images = torch.ones(8, 1, 6, 6)
    Cutout(3)(images)
    assert (images == 1).all()
