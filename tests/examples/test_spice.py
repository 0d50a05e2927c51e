import csv
import dataclasses
import json
import math

import pytest
import spice
import torch
from common.clustering import HeadSettings
from common.data import load_digits
from common.representation import RepresentationSettings
from common.semi_supervised import JointSettings
from safetensors.torch import load_file
from torch import nn

SMALL = spice.Settings(
    accelerator="cpu",
    width=4,
    representation=RepresentationSettings(epochs=3),
    heads=HeadSettings(heads=3, hidden=16, rounds=2, repeats=2),
    neighbors=5,
    reliable_above=0.5,
    joint=JointSettings(steps=4, labelled_batch=16, unlabelled_batch=32),
)
FILES = {
    "checkpoint.json",
    "checkpoint.safetensors",
    "embeddings.png",
    "labels.csv",
    "metrics.json",
    "prototypes.png",
    "reliability.png",
}


def few_digits():
    data = load_digits()
    return data._replace(images=data.images[:300], truth=data.truth[:300])


def shuffled_digits():
    data = few_digits()
    return data._replace(truth=data.truth[torch.randperm(300)])


def run(folder, digits, **changes):
    settings = dataclasses.replace(SMALL, out=folder, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spice, "load_digits", digits)
        spice.main(settings)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "first", few_digits)


def test_a_run_leaves_all_its_files(folder):
    assert {path.name for path in folder.iterdir()} == FILES

    metrics = json.loads((folder / "metrics.json").read_text())
    assert [score["stage"][:1] for score in metrics["scores"]] == ["k", "1", "2", "3"]
    assert all(0 <= score["accuracy"] <= 1 for score in metrics["scores"])
    assert metrics["settings"]["joint"]["steps"] == 4

    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert [int(row["index"]) for row in rows] == list(range(300))
    assert {int(row["label"]) for row in rows} <= set(range(10))
    assert sum(int(row["reliable"]) for row in rows) == metrics["scores"][2]["reliable"]


def test_shuffled_truth_changes_the_metrics_and_nothing_else(folder, tmp_path):
    other = run(tmp_path / "shuffled", shuffled_digits)
    for name in ("labels.csv", "checkpoint.safetensors"):
        assert (other / name).read_bytes() == (folder / name).read_bytes()
    scores = [json.loads((x / "metrics.json").read_text())["scores"] for x in (folder, other)]
    assert scores[0][0]["accuracy"] > scores[1][0]["accuracy"]


def test_another_seed_gives_other_weights(folder, tmp_path):
    other = run(tmp_path / "seed", few_digits, seed=1)
    weights = [load_file(x / "checkpoint.safetensors") for x in (folder, other)]
    assert weights[0].keys() == weights[1].keys()
    name = "network.1.0.weight"
    assert not torch.equal(weights[0][name], weights[1][name])


def test_a_run_never_lands_on_another(folder):
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(folder, few_digits)


def test_without_a_reliable_label_the_first_two_stages_are_reported(tmp_path, capsys):
    run(tmp_path / "none", few_digits, reliable_above=1.0)
    assert "No label is reliable: stage 3 is left out." in capsys.readouterr().out
    metrics = json.loads((tmp_path / "none" / "metrics.json").read_text())
    assert len(metrics["scores"]) == 3


@pytest.mark.parametrize(("start", "equal"), [("warm", True), ("fresh", False)])
def test_joint_training_starts_warm_or_fresh(start, equal):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    nn.init.normal_(network[1].weight)
    started = spice.joint_start(network, dataclasses.replace(SMALL, start=start))
    pairs = zip(network.parameters(), started.parameters(), strict=True)
    assert all(torch.equal(old, new) is equal for old, new in pairs if old.ndim != 1)
    assert torch.equal(network[1].weight, started[1].weight) is equal
    assert all(old is not new for old, new in zip(network, started, strict=True))


def test_numbers_in_the_metrics_are_finite(folder):
    scores = json.loads((folder / "metrics.json").read_text())["scores"]
    numbers = [x for score in scores for x in score.values() if isinstance(x, float)]
    assert all(math.isfinite(x) for x in numbers)
