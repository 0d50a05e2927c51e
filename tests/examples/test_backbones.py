import pytest
import torch
from common.backbones import BACKBONES, SmallConvNet, make_backbone
from common.backbones.resnet import ResNet
from common.backbones.wide_resnet import PreActivationBlock, WideResNet
from torch import nn

# Name: image size, in_channels, out_features, side of the feature map.
SHAPES = {
    "convnet-8": (8, 1, 256, 4),
    "convnet-28": (28, 1, 192, 4),
    "resnet-18": (224, 3, 512, 7),
    "resnet-18-small": (32, 3, 512, 4),
    "resnet-34": (96, 3, 512, 3),
    "resnet-34-pooled": (96, 3, 512, 7),
    "resnet-34-small": (32, 3, 512, 4),
    "wrn-28-2": (32, 3, 128, 8),
    "wrn-28-8": (32, 3, 512, 8),
    "wrn-37-2": (96, 3, 256, 12),
}
NARROW = {name: {"convnet-8": 2, "convnet-28": 2}.get(name, 4) for name in BACKBONES}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_backbone_is_tested():
    assert SHAPES.keys() == BACKBONES.keys()


@pytest.mark.parametrize(
    ("name", "published", "classes"),
    [
        ("resnet-18", 11_689_512, 1000),  # torchvision
        ("resnet-34", 21_797_672, 1000),  # torchvision
        ("resnet-18-small", 11_173_962, 10),  # the usual variant for CIFAR-10
        ("resnet-34-small", 21_282_122, 10),  # the usual variant for CIFAR-10
        ("resnet-34-pooled", 21_282_122, 10),  # the pool has none
        ("wrn-28-2", 1_467_610, 10),
    ],
)
def test_parameters_are_as_many_as_published(name, published, classes):
    backbone = make_backbone(name, 3)
    classifier = nn.Linear(backbone.out_features, classes)
    assert parameters(backbone) + parameters(classifier) == published


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (WideResNet(factor=10), 36.5),  # WRN-28-10, Zagoruyko & Komodakis, Table 4
        (WideResNet(factor=4, blocks=6), 8.9),  # WRN-40-4, the same table
        (make_backbone("wrn-28-8", 3), 23.4),
        (make_backbone("wrn-37-2", 3), 5.9),
    ],
)
def test_wide_resnets_have_the_published_millions_of_parameters(network, published):
    classifier = nn.Linear(network.out_features, 10)
    assert round((parameters(network) + parameters(classifier)) / 1e6, 1) == published


@pytest.mark.parametrize(
    ("blocks", "width"), [((2, 2, 2, 2), "18"), ((3, 4, 6, 3), "34"), ((1, 1, 1, 1), "10")]
)
def test_the_name_counts_the_layers(blocks, width):
    convolutions = [
        module
        for module in ResNet(blocks=blocks, width=1).modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    ]
    assert len(convolutions) + 1 == int(width)  # the classifier is the last


@pytest.mark.parametrize("name", SHAPES)
def test_features_are_pooled_from_the_feature_map(name):
    size, channels, out_features, side = SHAPES[name]
    backbone = make_backbone(name, channels).eval()
    images = torch.rand(1, channels, size, size)
    with torch.no_grad():
        features, feature_map = backbone(images), backbone.feature_map(images)
    assert features.shape == (1, out_features) == (1, backbone.out_features)
    assert feature_map.shape[2:] == (side, side)
    places = round((out_features / feature_map.shape[1]) ** 0.5)
    pooled = feature_map.unflatten(3, (places, -1)).unflatten(2, (places, -1)).mean((3, 5))
    torch.testing.assert_close(features, pooled.flatten(1))


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_reach_every_parameter(name):
    backbone = make_backbone(name, 3, width=NARROW[name])
    backbone(torch.rand(4, 3, 32, 32)).square().sum().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", BACKBONES)
def test_channels_last_and_bfloat16_give_the_same_features(name):
    backbone = make_backbone(name, 3, width=NARROW[name]).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = backbone(images)
        last = backbone.to(memory_format=torch.channels_last)
        torch.testing.assert_close(last(images.to(memory_format=torch.channels_last)), features)
        with torch.autocast("cpu", torch.bfloat16):
            half = last(images)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), features, rtol=0.1, atol=0.05 * features.abs().max())


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_and_any_width(name, channels):
    narrow, wide = (make_backbone(name, channels, width=width) for width in (2, 4))
    assert wide.out_features == 2 * narrow.out_features
    assert narrow(torch.rand(2, channels, 40, 36)).shape == (2, narrow.out_features)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_seed_decides_the_weights(name):
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(torch.cat([p.flatten() for p in make_backbone(name, 1, width=2).parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_digits_network_has_a_name():
    assert isinstance(make_backbone("convnet-8", 1), SmallConvNet)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg"}, "name: expected one of convnet-8, .* got 'vgg'"),
        ({"in_channels": 0}, "in_channels: expected at least 1, got 0"),
        ({"width": 0}, "width: expected at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make_backbone(**{"name": "convnet-8", "in_channels": 1, **arguments})


def test_only_an_unchanged_shape_lets_a_wide_block_pass_its_input_by():
    """What is normalised first does not tell ten times the input from the input."""
    images = torch.rand(4, 2, 8, 8)
    changing, keeping = PreActivationBlock(2, 3, stride=1), PreActivationBlock(2, 2, stride=1)
    torch.testing.assert_close(changing(10 * images), changing(images), atol=1e-3, rtol=1e-3)
    passed = keeping(10 * images) - keeping(images)
    torch.testing.assert_close(passed, 9 * images, atol=1e-3, rtol=1e-3)
