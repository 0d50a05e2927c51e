"""Every switch of every method changes its settings, and what comes out of a run."""

import dataclasses
import importlib
import shlex

import pytest
import torch
from common import pipeline
from common.backbones import BACKBONES
from common.data import SOURCES, load
from common.network import Architecture
from common.settings import command_line
from safetensors.torch import load_file

METHODS = ("spice", "rpsc", "scan")
TINY = shlex.split(
    """digits --accelerator cpu --backbone.width 4 --representation.epochs 8
    --representation.batch-size 50 --heads.heads 2 --heads.hidden 16 --heads.rounds 6
    --heads.batch-size 50 --heads.learning-rate 0.1 --reliability.neighbors 5
    --reliability.above 0.7 --joint.steps 3 --joint.labelled-batch 16 --joint.unlabelled-batch 16
    --no-pictures --no-baselines"""
)
# What no method of the papers is called by, but a user may turn.
OTHERS = {
    "hidden": "--heads.hidden 9",
    "optimizer": "--heads.optimizer sgd",
    "samples": "--heads.samples 100",
    "best of all rounds": "--heads.keep best --heads.evaluate-every 1 --heads.learning-rate 0.5",
    "neighbours": "--reliability.neighbors 9",
    "schedule": "--joint.schedule constant",
    "joint optimizer": "--joint.optimizer nesterov",
    "average": "--joint.average 0",
    "features": "--representation.features backbone",
    "backbone": "--backbone.width 3",
    "fresh backbone": "--start fresh --joint-backbone convnet-28",
}


def cases():
    for method in METHODS:
        for name, options in importlib.import_module(method).ABLATIONS.items():
            yield pytest.param(method, options, id=f"{method}: {name}")
    for name, options in OTHERS.items():
        yield pytest.param("spice", options, id=name)


def settings_of(method, *arguments):
    module = importlib.import_module(method)
    # After so little training no prediction passes SCAN's usual threshold.
    confident = ["--confident-from", "0.1"] if method == "scan" else []
    return command_line(module.__doc__, module.PRESETS, [*TINY, *confident, *arguments])


def few_digits(name, **options):
    data = load(name, **options)
    return data._replace(images=data.images[:200], truth=data.truth[:200])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights that a run with some options ends with."""
    made = {}

    def weights_of(method, options=""):
        if (method, options) not in made:
            folder = tmp_path_factory.mktemp("run") / "x"
            settings = settings_of(method, "--out", str(folder), *shlex.split(options))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pipeline, "load", few_digits)
                pipeline.main(settings, importlib.import_module(method).run)
            saved = load_file(folder / "checkpoint.safetensors")
            made[method, options] = {
                name: value for name, value in saved.items() if name.startswith("network")
            }
        return made[method, options]

    return weights_of


@pytest.mark.parametrize(("method", "options"), list(cases()))
def test_a_switch_changes_the_settings_and_the_outcome(method, options, weights):
    arguments = shlex.split(options)
    assert settings_of(method, *arguments) != settings_of(method)
    usual, changed = weights(method), weights(method, options)
    assert usual.keys() != changed.keys() or not all(
        usual[name].shape == changed[name].shape and torch.equal(usual[name], changed[name])
        for name in usual
    )


def test_the_same_settings_give_the_same_outcome(weights):
    again = weights("spice", "--heads.heads 2")
    assert all(torch.equal(value, again[name]) for name, value in weights("spice").items())


def presets():
    for method in METHODS:
        for name, (_, settings) in importlib.import_module(method).PRESETS.items():
            yield pytest.param(settings, id=f"{method}: {name}")


@pytest.mark.parametrize("settings", list(presets()))
def test_a_preset_names_what_there_is(settings):
    assert settings.data.name in SOURCES
    names = {settings.backbone.name, settings.joint_backbone or settings.backbone.name}
    assert names <= BACKBONES.keys()
    assert settings.joint_backbone is None or settings.start == "fresh"
    with torch.device("meta"):
        Architecture(settings.backbone.name, settings.backbone.width, 3, None, 8, None, 10).build()


# From the published configurations: epochs of rounds, M, share of agreeing neighbours, backbones.
SPICE_CODE = {
    "stl10": (100 * 2, 5000, 0.90, "resnet-34-pooled", "wrn-37-2"),
    "cifar10": (30 * 12, 5000, 0.99, "resnet-18-small", "wrn-28-2"),
    "cifar100-20": (100 * 6, 10000, 0.99, "resnet-34-pooled", "wrn-28-8"),
    "imagenet-10": (100 * 2, 5000, 0.90, "resnet-34", None),
    "imagenet-dogs-15": (100 * 2, 8000, 0.90, "resnet-34", None),
}


@pytest.mark.parametrize("name", SPICE_CODE)
def test_the_weight_decay_of_cifar_100_is_that_of_fixmatch_but_in_the_published_code(name):
    expected = 1e-3 if name == "cifar100-20" else 5e-4
    for method in ("spice", "rpsc"):
        presets = importlib.import_module(method).PRESETS
        assert presets[f"{name}-paper"][1].joint.weight_decay == expected
    assert importlib.import_module("spice").PRESETS[f"{name}-code"][1].joint.weight_decay == 5e-4


@pytest.mark.parametrize("name", SPICE_CODE)
def test_the_presets_of_the_published_code(name):
    settings = importlib.import_module("spice").PRESETS[f"{name}-code"][1]
    heads, reliability = settings.heads, settings.reliability
    found = (heads.rounds, heads.samples, reliability.above, settings.backbone.name)
    assert (*found, settings.joint_backbone) == SPICE_CODE[name]
    assert (heads.heads, heads.repeats, heads.batch_size, heads.learning_rate) == (10, 8, 128, 5e-3)
    assert settings.prototype_ratio == 0.5
    assert dataclasses.astuple(reliability)[0] == 100
    assert (reliability.strict, reliability.include_self, reliability.balance) == (
        False,
        True,
        True,
    )
    assert reliability.min_confidence == 0.99
    assert (settings.start, heads.keep) == ("fresh", "best")


PAPER_SAMPLES = {
    "stl10": 1000,
    "cifar10": 1000,
    "cifar100-20": 2000,
    "imagenet-10": 1000,
    "imagenet-dogs-15": 1500,
    "tiny-imagenet": 5000,
}


@pytest.mark.parametrize("name", PAPER_SAMPLES)
def test_the_presets_of_rpsc(name):
    settings = importlib.import_module("rpsc").PRESETS[f"{name}-paper"][1]
    assert settings.heads.samples == PAPER_SAMPLES[name]
    assert (settings.heads.heads, settings.heads.norm) == (10, "batch")
    assert (settings.prototype_ratio, settings.loss_details.scl_temperature) == (0.5, 0.5)
    assert (settings.reliability.neighbors, settings.reliability.above) == (100, 0.95)
    assert settings.reliability.strict
    assert settings.label_view == "clean"


def test_the_help_explains_every_field(capsys):
    with pytest.raises(SystemExit):
        command_line("A method.", importlib.import_module("spice").PRESETS, ["digits", "--help"])
    said = capsys.readouterr().out
    assert "--loss-details.scl-confidence" in said
    assert "published code" in said


def test_options_without_a_preset_mean_the_first():
    module = importlib.import_module("rpsc")
    settings = command_line("A method.", module.PRESETS, ["--seed", "7"])
    assert settings == dataclasses.replace(module.PRESETS["digits"][1], seed=7)


def test_an_unknown_preset_is_refused(capsys):
    with pytest.raises(SystemExit):
        command_line("A method.", importlib.import_module("rpsc").PRESETS, ["cifar11"])
    assert "cifar11" in capsys.readouterr().err
