import pytest
import torch
from common.attention import attention
from common.backbones import make_backbone
from common.network import Encoder
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


def test_attention_is_highest_where_the_images_are_alike():
    encoder = Encoder(make_backbone("convnet-28", 1, width=4), None).eval()
    views = torch.zeros(3, 1, 28, 28)
    views[:, :, 8:16, 8:16] = 1
    maps = attention(torch.nn.Sequential(encoder), views)
    assert maps.shape == (3, 28, 28)
    assert maps.amin((1, 2)).tolist() == [0, 0, 0]
    torch.testing.assert_close(maps.amax((1, 2)), torch.ones(3))
    torch.testing.assert_close(maps[0], maps[1])


def test_a_map_of_many_images_takes_some_of_them(monkeypatch):
    monkeypatch.setattr("common.plots.MAPPED", 25)
    images = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)
    labels, members = torch.arange(60) % 3, torch.arange(6).view(3, 2)
    options = (labels, labels > 0, images, members)
    figure = embedding_map(torch.randn(60, 5), *options, seed=0)
    assert figure.get_suptitle().endswith("of 20 of 60 images")
