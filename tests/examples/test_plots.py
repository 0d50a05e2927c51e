import pytest
import torch
from common.plots import embedding_map, prototype_images, ratio_histogram


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pictures_draw(tmp_path, channels):
    images = torch.randint(256, (60, channels, 8, 8), dtype=torch.uint8)
    labels = torch.arange(60) % 3  # of four clusters one is empty
    members = torch.arange(8).view(4, 2)
    ratio = torch.arange(60).double() / 59
    figures = [
        prototype_images(images, members),
        embedding_map(torch.randn(60, 5), labels, ratio > 0.5, images, members, seed=0),
        ratio_histogram(ratio, 0.5),
    ]
    for index, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{index}.png", dpi=30)


def test_one_ratio_for_all_draws(tmp_path):
    ratio_histogram(torch.ones(5), 0.95).savefig(tmp_path / "ones.png", dpi=30)
