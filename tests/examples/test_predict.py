import csv
import importlib
import json
import os
import runpy
import shlex
import sys
from dataclasses import asdict

import numpy as np
import predict
import pytest
import torch
from common import pipeline
from common.data import load_digits
from common.network import Architecture
from common.run_folder import RunFolder
from common.settings import command_line
from PIL import Image

OPTIONS = shlex.split(
    """digits --accelerator cpu --backbone.width 4 --representation.epochs 2 --heads.heads 2
    --heads.rounds 2 --heads.repeats 1 --reliability.neighbors 5 --reliability.above 0.3
    --joint.steps 2 --no-pictures --no-baselines"""
)
RUNS = {
    "spice": "spice --heads.hidden 8",
    "rpsc, fresh on another backbone": "rpsc --start fresh --joint-backbone convnet-28",
    "scan, no projection": "scan --representation.features backbone",
}


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    method, *options = shlex.split(RUNS[request.param])
    folder = tmp_path_factory.mktemp("run") / "x"
    module = importlib.import_module(method)
    arguments = [*OPTIONS, *options, "--out", str(folder)]
    pipeline.main(command_line("", module.PRESETS, arguments), module.run)
    return folder


def rows_of(path):
    return list(csv.DictReader(path.open()))


def predictions(run, images, tmp_path):
    out = tmp_path / "predictions.csv"
    predict.main(predict.Settings(run, images, out, accelerator="cpu"))
    return rows_of(out)


def test_the_images_of_the_run_get_the_labels_of_the_run(run, tmp_path):
    np.save(tmp_path / "digits.npy", load_digits().images.squeeze(1).numpy())
    rows, expected = (
        predictions(run, tmp_path / "digits.npy", tmp_path),
        rows_of(run / "labels.csv"),
    )
    assert [row["label"] for row in rows] == [row["label"] for row in expected]
    for row, known in zip(rows, expected, strict=True):
        probs = [float(row[f"probability_{k}"]) for k in range(10)]
        assert max(probs) == pytest.approx(float(known["confidence"]), abs=2e-6)
        assert sum(probs) == pytest.approx(1, abs=1e-5)


def test_a_folder_of_image_files_is_read(run, tmp_path):
    (tmp_path / "images").mkdir()
    digits = load_digits().images[:5, 0]
    for index, digit in enumerate(digits):
        Image.fromarray(digit.numpy()).save(tmp_path / "images" / f"{index}.png")
    rows = predictions(run, tmp_path / "images", tmp_path)
    assert [row["image"].rsplit("/")[-1] for row in rows] == [f"{index}.png" for index in range(5)]
    known = [row["label"] for row in rows_of(run / "labels.csv")][:5]
    assert [row["label"] for row in rows] == known


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 8, 8), dtype=np.float32),
        np.zeros((2, 3, 8, 8), dtype=np.uint8),
        np.zeros((2, 1, 9, 8), dtype=np.uint8),
        np.zeros((8, 8), dtype=np.uint8),
    ],
)
def test_arrays_of_another_kind_are_refused(run, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(ValueError, match=r"expected uint8 of shape \(N, 1, 8, 8\), got"):
        predictions(run, tmp_path / "images.npy", tmp_path)


def test_objects_are_never_unpickled(run, tmp_path):
    np.save(tmp_path / "images.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        predictions(run, tmp_path / "images.npy", tmp_path)


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a folder of images, an image"):
        predictions(run, tmp_path / "nowhere", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.json: expected the checkpoint"):
        predictions(tmp_path, tmp_path, tmp_path)
    (run / "checkpoint.safetensors").rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.safetensors: expected the"):
        predictions(run, tmp_path, tmp_path)
    (tmp_path / "aside").rename(run / "checkpoint.safetensors")


def test_a_file_is_not_written_over(run, tmp_path):
    (tmp_path / "predictions.csv").write_text("precious")
    np.save(tmp_path / "images.npy", torch.zeros(1, 8, 8, dtype=torch.uint8).numpy())
    with pytest.raises(FileExistsError, match="--overwrite"):
        predictions(run, tmp_path / "images.npy", tmp_path)
    assert (tmp_path / "predictions.csv").read_text() == "precious"


@pytest.fixture
def untrained(tmp_path):
    """What predict.py reads of a run, with fresh weights."""
    architecture = Architecture("convnet-8", 2, 1, None, 8, None, 3)
    tensors = {
        f"network.{name}": value for name, value in architecture.build().state_dict().items()
    }
    folder = RunFolder(tmp_path / "run")
    folder.write_tensors("checkpoint.safetensors", tensors)
    settings = {"data": {"name": "folder"}}
    content = {"architecture": asdict(architecture), "image_shape": [1, 8, 8], "settings": settings}
    folder.write_json("checkpoint.json", content)
    return folder.path


def program(monkeypatch, *arguments):
    """Runs predict.py as the command line does."""
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
    runpy.run_path(predict.__file__, run_name="__main__")


def save_image(path, grey=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 9), grey, np.uint8)).save(path)
    return path


def broken(content):
    return lambda run: (run / "checkpoint.json").write_text(content)


def of_another_network(run):
    said = json.loads((run / "checkpoint.json").read_text())
    said["architecture"]["hidden"] = 9
    (run / "checkpoint.json").write_text(json.dumps(said))


WRONG_RUNS = {
    "no JSON": (broken("{x"), r"checkpoint\.json: expected the .* damaged file \(JSONDecodeError"),
    "a list": (broken("[]"), r"checkpoint\.json: expected the checkpoint of a run, got a damaged"),
    "empty": (broken("{}"), r"checkpoint\.json: expected .* \(KeyError: 'architecture'\)"),
    "unknown size": (
        broken('{"architecture": {"depth": 3}}'),
        r"checkpoint\.json: expected the .* \(TypeError: .*'depth'",
    ),
    "tensors cut": (
        lambda run: os.truncate(run / "checkpoint.safetensors", 99),
        r"checkpoint\.safetensors: expected the checkpoint of a run, got a damaged file \(",
    ),
    "another network": (
        of_another_network,
        r"checkpoint\.safetensors: expected the network of this run's architecture; .*mismatch",
    ),
}


@pytest.mark.parametrize(("damage", "said"), WRONG_RUNS.values(), ids=WRONG_RUNS)
def test_a_damaged_run_ends_the_program_with_one_line(
    damage, said, untrained, tmp_path, monkeypatch
):
    damage(untrained)
    out = tmp_path / "x.csv"
    with pytest.raises(SystemExit, match=rf"^error: .*{said}.*\Z"):
        program(monkeypatch, untrained, save_image(tmp_path / "a.png"), "--out", out)
    assert not out.exists()


WRONG_OPTIONS = {
    "a folder": (
        ["--out", "taken", "--overwrite"],
        "taken: expected a file for --out, got a folder",
    ),
    "a folder, not overwritten": (["--out", "taken"], "taken: expected a file for --out, got a"),
    "below a file": (["--out", "a.png/deeper/x.csv"], r"a\.png"),
    "no batch": (["--batch-size", "0"], "--batch-size: expected at least 1, got 0"),
    "no accelerator": (["--accelerator", "mps"], "--accelerator: expected one .*, got 'mps'"),
    "no such name": (["--accelerator", "abacus"], "--accelerator: expected one .*, got 'abacus'"),
}


@pytest.mark.parametrize(("options", "said"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_a_wrong_option_ends_the_program_with_one_line(
    options, said, untrained, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    (tmp_path / "taken").mkdir()
    save_image(tmp_path / "a.png")
    with pytest.raises(SystemExit, match=rf"^error: .*{said}.*\Z"):
        program(monkeypatch, untrained, "a.png", *options)


def cut_array(path):
    np.save(path, np.zeros((2, 8, 8), np.uint8))
    os.truncate(path, 150)


WRONG_IMAGES = {
    "an archive.npz": lambda path: np.savez(path, np.zeros((2, 8, 8), np.uint8)),
    "a text.txt": lambda path: path.write_text("a picture of a cat"),
    "cut.npy": cut_array,
    "empty.npy": lambda path: path.touch(),
    "objects.npy": lambda path: np.save(path, np.array([{}]), allow_pickle=True),
}


@pytest.mark.parametrize(("name", "make"), WRONG_IMAGES.items(), ids=WRONG_IMAGES)
def test_a_file_without_images_ends_the_program_with_one_line(
    name, make, untrained, tmp_path, monkeypatch
):
    make(tmp_path / name)
    said = rf"{name}: expected a folder of images, an image file or a \.npy file of numbers, found"
    with pytest.raises(SystemExit, match=rf"^error: .*{said}.*\Z"):
        program(monkeypatch, untrained, tmp_path / name, "--out", tmp_path / "x.csv")


def test_a_damaged_image_is_named(untrained, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(SystemExit, match=r"^error: .*a\.png: expected a whole image.*\Z"):
        program(monkeypatch, untrained, tmp_path / "a.png", "--out", tmp_path / "x.csv")


def test_an_image_file_is_one_row_as_it_is_in_its_folder(untrained, tmp_path):
    for grey in (30, 200):
        save_image(tmp_path / "images" / f"{grey}.png", grey)
    _, in_folder = predictions(untrained, tmp_path / "images", tmp_path)
    (tmp_path / "predictions.csv").unlink()
    alone = predictions(untrained, tmp_path / "images" / "30.png", tmp_path)
    assert alone == [in_folder]


def test_the_rows_of_class_folders_are_in_the_order_of_the_paths(untrained, tmp_path):
    files = [
        save_image(tmp_path / "images" / name / f"{grey}.png", grey)
        for name in ("cats", "dogs")
        for grey in range(100, 200, 25)
    ]
    rows = predictions(untrained, tmp_path / "images", tmp_path)
    assert [row["image"] for row in rows] == list(map(str, files))
    for row, file in zip(rows, files, strict=True):
        (tmp_path / "predictions.csv").unlink()
        assert predictions(untrained, file, tmp_path) == [row]


def test_help_names_the_arguments(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        program(monkeypatch, "--help")
    said = capsys.readouterr().out
    assert "RUN IMAGES" in said
    assert "PATH PATH" not in said
