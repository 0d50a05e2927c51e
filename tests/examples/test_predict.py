import csv
import importlib
import shlex

import numpy as np
import predict
import pytest
import torch
from common import pipeline
from common.data import load_digits
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
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a folder of images or a \.npy"):
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
