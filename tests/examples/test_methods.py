"""What holds for every method: its files, its seeds, and that no ground truth gets in."""

import csv
import importlib
import json
import math
import re
import shlex
import shutil
from collections import Counter

import pytest
import torch
from common import pipeline
from common.clustering import Learner
from common.data import load
from common.run_folder import RunFolder
from common.settings import command_line
from PIL import Image
from safetensors.torch import load_file, save_file

from pseudolabel import clustering_accuracy

METHODS = ("spice", "rpsc", "scan")
TINY = shlex.split("""--accelerator cpu --backbone.width 4 --representation.epochs 3 --heads.heads 3
    --heads.hidden 16 --heads.rounds 2 --heads.repeats 2 --reliability.neighbors 5
    --reliability.above 0.5 --joint.steps 4 --joint.labelled-batch 16 --joint.unlabelled-batch 32
    --no-pictures""")
NUMBERS = {
    "checkpoint.json",
    "checkpoint.safetensors",
    "labels.csv",
    "metrics.json",
    "report.html",
    "run.json",
} | {"tensorboard"}
PICTURES = {
    "accuracy.png",
    "attention.png",
    "confusion.png",
    "embeddings.png",
    "heads.png",
    "joint.png",
    "prototypes.png",
    "purity.png",
    "reliability.png",
    "training.png",
}


def few_digits(name="digits", **options):
    data = load(name, **options)
    return data._replace(images=data.images[:300], truth=data.truth[:300])


def shuffled_digits(name="digits", **options):
    data = few_digits(name, **options)
    return data._replace(truth=data.truth[torch.randperm(300)])


def run(method, folder, *arguments, load=few_digits):
    module = importlib.import_module(method)
    options = ["digits", *TINY, "--out", str(folder), *arguments]
    settings = command_line(module.__doc__, module.PRESETS, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load", load)
        pipeline.main(settings, module.run)
    return folder


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of every method, made when it is first asked for."""
    made = {}

    def run_of(method):
        if method not in made:
            made[method] = run(method, tmp_path_factory.mktemp(method) / "first")
        return made[method]

    return run_of


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_all_its_files(method, runs):
    folder = runs(method)
    assert {path.name for path in folder.iterdir()} == NUMBERS

    metrics = metrics_of(folder)
    stages = [score["stage"].strip()[:1] for score in metrics["scores"]]
    assert stages == ["k", "1", "2", "t", "3"]
    assert all(0 <= score["accuracy"] <= 1 for score in metrics["scores"])
    assert metrics["settings"]["joint"]["steps"] == 4
    numbers = [x for score in metrics["scores"] for x in score.values() if isinstance(x, float)]
    assert all(math.isfinite(x) for x in numbers)

    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert [int(row["index"]) for row in rows] == list(range(300))
    assert {int(row["label"]) for row in rows} <= set(range(10))
    assert sum(int(row["reliable"]) for row in rows) == metrics["scores"][3]["reliable"]


@pytest.mark.parametrize("method", METHODS)
def test_the_report_tells_of_the_final_labels_the_stages_and_the_settings(method, runs):
    page = (runs(method) / "report.html").read_text()
    assert "<h1>300 images of digits</h1>" in page
    rows = list(csv.DictReader((runs(method) / "labels.csv").open()))
    sizes = Counter(row["label"] for row in rows)
    for cluster, size in sizes.items():
        assert re.search(rf"<bdi>{cluster}</bdi></th>\s*<td[^>]*>{size}</td>", page)
    for score in metrics_of(runs(method))["scores"]:
        assert score["stage"].strip() in page
    assert "heads.repeats" in page
    assert page.count("data:image/png") > 5
    assert "http:" not in page
    assert "https:" not in page


@pytest.mark.parametrize("method", METHODS)
def test_the_log_tells_speed_and_the_share_outside_the_network(method, runs):
    for score in metrics_of(runs(method))["scores"]:
        trains = score["stage"][0] in "123"
        assert (score["images_per_second"] > 0) is trains
        assert 0 <= score["outside_network"] <= 1
        assert (score["outside_network"] < 1) is trains


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_truth_changes_the_metrics_and_nothing_else(method, runs, tmp_path):
    folder, other = runs(method), run(method, tmp_path / "shuffled", load=shuffled_digits)
    for name in ("labels.csv", "checkpoint.safetensors"):
        assert (other / name).read_bytes() == (folder / name).read_bytes()
    heads = [
        json.loads((x / "checkpoint.json").read_text())["selected_head"] for x in (folder, other)
    ]
    assert heads[0] == heads[1]
    scores = [metrics_of(x)["scores"] for x in (folder, other)]
    assert scores[0][0]["accuracy"] > scores[1][0]["accuracy"]


@pytest.mark.parametrize("method", METHODS)
def test_another_seed_gives_other_weights(method, runs, tmp_path):
    other = run(method, tmp_path / "seed", "--seed", "1")
    weights = [load_file(x / "checkpoint.safetensors") for x in (runs(method), other)]
    assert weights[0].keys() == weights[1].keys()
    name = "network.1.0.weight"
    assert not torch.equal(weights[0][name], weights[1][name])


def test_what_is_measured_on_the_way_changes_nothing_that_comes_out(runs, tmp_path):
    watched = shlex.split("--heads.evaluate-every 1 --joint.evaluate-every 2 --probe --pictures")
    other = run("rpsc", tmp_path / "watched", *watched)
    for name in ("labels.csv", "checkpoint.safetensors"):
        assert (other / name).read_bytes() == (runs("rpsc") / name).read_bytes()
    assert {path.name for path in other.iterdir()} == NUMBERS | PICTURES
    scores = metrics_of(other)["scores"]
    assert [moment["after"] for moment in scores[2]["history"]] == [0, 1, 2]
    assert [moment["after"] for moment in scores[4]["history"]] == [2, 4]
    assert len(scores[2]["history"][0]["accuracies"]) == 3
    assert all(0 < scores[stage]["probe"] <= 1 for stage in (1, 4))


def test_an_encoder_is_taken_over_from_another_run(runs, tmp_path):
    other = run("rpsc", tmp_path / "other", "--encoder-from", str(runs("spice")))
    weights = [load_file(x / "checkpoint.safetensors") for x in (runs("spice"), other)]
    # The stages draw from seeds of their own, so that even the rest is as if stage 1 had been run.
    assert (other / "labels.csv").read_bytes() == (runs("rpsc") / "labels.csv").read_bytes()
    names = [name for name in weights[0] if name.startswith("encoder.")]
    assert names
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in names)


def test_an_encoder_of_another_architecture_is_refused(runs, tmp_path):
    options = ("--encoder-from", str(runs("spice")), "--backbone.width", "5")
    with pytest.raises(ValueError, match="expected the encoder of this run's architecture"):
        run("rpsc", tmp_path / "wider", *options)


def test_a_second_pass_begins_with_the_encoder_of_stage_3(runs, tmp_path):
    begun = ("--encoder-from", str(runs("spice")), "--encoder-after")
    other = run("spice", tmp_path / "second", *begun, "3")
    weights = [load_file(x / "checkpoint.safetensors") for x in (runs("spice"), other)]
    names = [name for name in weights[1] if name.startswith("encoder.")]
    for name in names:
        left = weights[0]["network.0." + name.removeprefix("encoder.")]
        assert torch.equal(weights[1][name], left)
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in names)
    stages = [score["stage"].strip()[:1] for score in metrics_of(other)["scores"]]
    assert stages == ["k", "1", "2", "t", "3"]


def test_a_second_pass_needs_a_run_that_is_over(runs, tmp_path):
    with pytest.raises(ValueError, match="--encoder-after: expected a run to take it from"):
        run("spice", tmp_path / "none", "--encoder-after", "3")
    some = load_file(runs("spice") / "checkpoint.safetensors")
    (tmp_path / "cut").mkdir()
    left = {name: value.clone() for name, value in some.items() if name.startswith("encoder.")}
    save_file(left, tmp_path / "cut" / "checkpoint.safetensors")
    begun = ("--encoder-from", str(tmp_path / "cut"), "--encoder-after", "3")
    with pytest.raises(ValueError, match=r"expected the network\.0 of a run that is over"):
        run("spice", tmp_path / "second", *begun)


def test_a_run_never_lands_on_another(runs):
    with pytest.raises(FileExistsError, match="--overwrite"):
        run("spice", runs("spice"))


def test_what_scan_has_no_use_for_is_told(runs, tmp_path, capsys):
    unused = ("--start", "fresh", "--loss-details.ce-temperature", "3", "--heads.samples", "5")
    other = run("scan", tmp_path / "other", *unused)
    told = capsys.readouterr().out
    for option in ("start", "joint.labelled-batch", "loss-details.ce-temperature", "heads.samples"):
        assert f"--{option} changes nothing: SCAN has no use for it." in told
    assert told.count("changes nothing") == 4
    assert (other / "labels.csv").read_bytes() == (runs("scan") / "labels.csv").read_bytes()


def test_a_run_that_cannot_start_overwrites_nothing(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs("spice"), folder)
    before = {path.name for path in folder.iterdir()}
    for encoder, message in ((tmp_path / "nowhere", "checkpoint of a run"), (folder, "than --out")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            run("spice", folder, "--overwrite", "--encoder-from", str(encoder))
    assert {path.name for path in folder.iterdir()} == before


def test_an_overwritten_run_leaves_nothing_but_what_is_not_its_own(tmp_path):
    folder = tmp_path / "run"
    run("spice", folder, "--pictures", "--heads.evaluate-every", "1", "--joint.evaluate-every", "2")
    assert {path.name for path in folder.iterdir()} == NUMBERS | PICTURES
    (folder / "tensorboard" / "notes.txt").write_text("mine")
    (folder / "mine.png").write_text("mine")
    RunFolder(folder, existing="overwrite")
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {"mine.png", "tensorboard/notes.txt"}


def test_heads_that_all_say_the_same_leave_a_run_with_its_pictures(tmp_path, monkeypatch):
    """As SCAN's do without the entropy: there is no map of one point."""
    collapsed = torch.zeros(3, 300, 10)
    monkeypatch.setattr(Learner, "logits", lambda *_: collapsed.clone())
    folder = run("scan", tmp_path / "run", "--pictures", "--heads.evaluate-every", "1")
    assert (folder / "training.png").exists()
    assert (folder / "metrics.json").exists()


def test_without_a_reliable_label_the_first_stages_are_reported(tmp_path, capsys):
    run("spice", tmp_path / "none", "--reliability.above", "1.0")
    assert "No label is reliable: stage 3 is left out." in capsys.readouterr().out
    assert len(metrics_of(tmp_path / "none")["scores"]) == 4


def test_a_backbone_for_stage_3_alone_asks_for_a_fresh_start(tmp_path):
    with pytest.raises(ValueError, match="--joint-backbone: expected none for a warm start"):
        run("spice", tmp_path / "x", "--joint-backbone", "convnet-8")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("spice", ["--heads.rounds", "0"], "--heads.rounds: expected 1 or more, got 0"),
        ("spice", ["--prototype-ratio", "0"], r"--prototype-ratio: expected a number in \(0, 1\]"),
        ("spice", ["--joint.average", "1"], r"--joint.average: expected a number in \[0, 1\)"),
        ("rpsc", ["--threshold-momentum", "nan"], "--threshold-momentum: expected .*, got nan"),
        ("spice", ["--backbone.name", "vit"], "--backbone.name: expected one of convnet-8, "),
        ("rpsc", ["--data.num-classes", "2000"], "--data.num-classes: expected at most 300 "),
        ("spice", ["--reliability.neighbors", "300"], "neighbors: expected at most 299 "),
        ("spice", ["--heads.samples", "9"], "--heads.samples: expected one a cluster at least, 10"),
        ("spice", ["--seed", "4294967293"], r"--seed: expected a number in \[0, 4294967292\]"),
        ("spice", ["--data.size", "9"], "--data.size: expected None for digits"),
        ("spice", ["--encoder-from", "nowhere"], "nowhere.*: expected the checkpoint of a run"),
        ("scan", ["--mined", "300"], "--mined: expected at most 299 for these images, got 300"),
        (
            "scan",
            ["--accelerator", "tpu"],
            "--accelerator: expected one that this machine has, got .tpu.: ",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(method, options, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(method, tmp_path / "x", *options)
    assert not (tmp_path / "x").exists()


def test_held_out_images_are_scored_and_not_trained_on(runs, tmp_path):
    def split(name, **options):
        data, rest = few_digits(name, **options), load(name)
        part = rest._replace(images=rest.images[300:400], truth=rest.truth[300:400])
        return data._replace(held_out=part)

    other = run("spice", tmp_path / "split", load=split)
    assert (other / "labels.csv").read_bytes() == (runs("spice") / "labels.csv").read_bytes()
    scores = metrics_of(other)["scores"]
    assert [len(score["held_out"] or []) for score in scores] == [0, 0, 3, 0, 3]
    rows = list(csv.DictReader((other / "held_out_labels.csv").open()))
    assert [*rows[0]] == ["index", "label", "confidence"]
    assert [int(row["index"]) for row in rows] == list(range(100))
    assert all(0.1 <= float(row["confidence"]) <= 1 for row in rows)
    found, truth = torch.tensor([int(row["label"]) for row in rows]), load("digits").truth[300:400]
    assert clustering_accuracy(found, truth) == scores[4]["held_out"][0]
    RunFolder(other, existing="overwrite")
    assert not any(other.iterdir())


def test_held_out_images_are_named_in_the_order_of_their_paths(tmp_path):
    for part, count in (("train", 40), ("test", 12)):
        for index, image in enumerate(torch.randint(256, (count, 8, 8, 3), dtype=torch.uint8)):
            path = tmp_path / "photos" / part / "ab"[index % 2] / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.numpy()).save(path)
    options = ["--data.name", "folder", "--data.root", str(tmp_path / "photos")]
    options += ["--data.size", "8", "--data.protocol", "split"]
    folder = run("spice", tmp_path / "run", *options, load=load)
    rows = list(csv.DictReader((folder / "held_out_labels.csv").open()))
    files = [row["file"] for row in rows]
    assert files == sorted(map(str, (tmp_path / "photos" / "test").rglob("*.png")))
    assert sorted(int(row["index"]) for row in rows) == list(range(12))


def test_a_folder_of_images_without_labels(tmp_path):
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(torch.randint(256, (60, 12, 12, 3), dtype=torch.uint8)):
        Image.fromarray(image.numpy()).save(tmp_path / "photos" / f"{index}.png")
    options = ["--data.name", "folder", "--data.root", str(tmp_path / "photos")]
    options += ["--data.size", "12", "--data.num-classes", "3", "--heads.evaluate-every", "1"]
    folder = run("rpsc", tmp_path / "run", *options, "--pictures", load=load)
    scores = metrics_of(folder)["scores"]
    assert all(score["accuracy"] is None for score in scores)
    assert "losses" in scores[2]["history"][0]
    measured = {"accuracy.png", "confusion.png", "joint.png", "purity.png"}
    assert {path.name for path in folder.iterdir()} == (NUMBERS | PICTURES) - measured
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert len(rows) == 60
    assert rows[7]["file"] == str(tmp_path / "photos" / "15.png")  # in the order of the paths
    assert re.search(r"alt=\"\d+\.png, labelled [012]\"", (folder / "report.html").read_text())
    assert {int(row["label"]) for row in rows} <= {0, 1, 2}
