"""The command as a user runs it: results, formats, pictures, folders, exit codes."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import pseudolabel
from pseudolabel.cli import entry, folder, judging, main
from pseudolabel.cli.reading import list_pictures, read_features, read_labels
from pseudolabel.estimator import PrototypeClustering
from pseudolabel.report import render_report

FILES = {
    "labels.csv",
    "doubtful.csv",
    "labels.npy",
    "reliable_labels.npy",
    "report.html",
    "summary.json",
}
FAST = ["--n-heads", "2", "--max-iter", "3"]
SOURCES = str(Path(pseudolabel.__file__).parent.parent)


def groups(count=60):
    """Three groups of rows, one after the other."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(count, 4)).astype(np.float32)
    rows[np.arange(count), np.arange(count) * 3 // count] += 12
    return rows, np.arange(count) * 3 // count


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to work in, with features and with labels of which row 7 is wrong."""
    monkeypatch.chdir(tmp_path)
    rows, labels = groups()
    labels[7] = 2
    np.save("features.npy", rows)
    np.save("labels.npy", labels)
    return tmp_path


def run(*arguments):
    """Runs the command in this process; tyro ends wrong usage by itself."""
    try:
        return main([*map(str, arguments), "--quiet"])
    except SystemExit as stop:
        return stop.code


def audit(*arguments, out="out"):
    return run("audit", "features.npy", "labels.npy", "--out", out, "--map", "pca", *arguments)


def table(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def left_in(path):
    return sorted(p.name for p in Path(path).iterdir())


# --- what comes out ------------------------------------------------------------------------------


def test_every_option_of_the_estimator_is_passed_on(work, monkeypatch):
    """And the summary tells of the head that was kept."""
    asked, fits = {}, []

    class Recorded(PrototypeClustering):
        def fit(self, X, y=None):
            asked.update(self.get_params())
            fits.append(super().fit(X))
            return self

    monkeypatch.setattr("pseudolabel.estimator.PrototypeClustering", Recorded)
    options = {
        "n_heads": 3,
        "hidden_features": 17,
        "loss": "soft_contrastive",
        "assignment": "greedy",
        "prototype_ratio": 0.6,
        "label_ratio": 0.7,
        "learning_rate": 0.004,
        "batch_size": 16,
        "samples_per_iter": 50,
        "max_iter": 2,
        "tol": 0.002,
        "n_iter_no_change": 1,
        "device": "cpu",
    }
    words = [x for name, value in options.items() for x in ("--" + name.replace("_", "-"), value)]
    words += ["--no-early-stopping", "--seed", 5, "--class-prior", 5, 3, 2, "--map", "pca"]
    assert run("cluster", "features.npy", "-k", 3, "--out", "out", *words) == 0
    assert "PCA map of the rows" in Path("out/report.html").read_text()
    assert list(asked.pop("class_prior")) == [5, 3, 2]
    given = {"n_clusters": 3, "early_stopping": False, "random_state": 5, "n_neighbors": 1}
    # Rows are judged by the command, so that the estimator's threshold is of no interest.
    assert asked.pop("reliability_threshold") == 0.95
    assert asked == options | given
    settings = json.loads(Path("out/summary.json").read_text())["settings"]
    best = fits[0].best_head_
    assert settings["kept_head"] == best
    assert settings["loss_of_kept_head"] == round(float(fits[0].losses_[best]), 6)
    assert settings["rounds"] == fits[0].n_iter_ == 2


def test_cluster_writes_labels_that_agree_with_each_other(work, capsys):
    assert run("cluster", "features.npy", "-k", 3, "--out", "deep/out", *FAST) == 0
    assert set(left_in("deep/out")) == FILES
    rows, labels = table("deep/out/labels.csv"), np.load("deep/out/labels.npy")
    header = ["row", "label", "confidence", "reliability", "reliable", "suggested", "doubt"]
    assert list(rows[0]) == header
    assert [int(row["row"]) for row in rows] == list(range(60))
    assert [int(row["label"]) for row in rows] == labels.tolist()
    assert all(1 / 3 <= float(row["confidence"]) <= 1 for row in rows)
    assert [len(set(labels[i : i + 20])) for i in (0, 20, 40)] == [1, 1, 1]
    kept = np.array([row["reliable"] == "1" for row in rows])
    np.testing.assert_array_equal(
        np.load("deep/out/reliable_labels.npy"), np.where(kept, labels, -1)
    )
    assert all(float(row["reliability"]) > 0.95 for row, k in zip(rows, kept, strict=True) if k)
    summary = json.loads(Path("deep/out/summary.json").read_text())
    assert summary["settings"]["command"] == "cluster"
    assert summary["result"]["reliable"] == kept.sum() == summary["result"]["rows"] == 60
    assert [c["samples"] for c in summary["classes"]] == [20, 20, 20]
    assert [c["reliable"] for c in summary["classes"]] == [20, 20, 20]
    assert summary["settings"]["n_clusters"] == 3
    assert summary["settings"]["features"] == "features.npy"
    assert summary["settings"]["neighbors"] == 10
    assert set(summary["seconds"]) >= {"reading", "training heads", "labelling", "neighbours"}
    assert summary["versions"]["pseudolabel"] == pseudolabel.__version__
    assert "<h1>Clusters of features.npy</h1>" in Path("deep/out/report.html").read_text()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "60 rows, 3 clusters; 60 of 60 labels are reliable, 0 rows are doubtful",
        str(Path("deep/out/report.html")),
    ]
    assert err == ""


def test_cluster_is_the_estimator(work):
    options = ["--loss", "soft_contrastive", "--class-prior", "1", "2", "3", "--seed", "5"]
    assert run("cluster", "features.npy", "-k", 3, "--out", "out", *FAST, *options) == 0
    fitted = PrototypeClustering(
        3, n_heads=2, max_iter=3, loss="soft_contrastive", class_prior=(1, 2, 3), random_state=5
    ).fit(np.load("features.npy"))
    np.testing.assert_array_equal(np.load("out/labels.npy"), fitted.labels_)


def test_cluster_can_train_on_some_rows_and_labels_all(work):
    assert run("cluster", "features.npy", "-k", 3, "--out", "out", *FAST, "--fit-rows", 30) == 0
    labels = np.load("out/labels.npy")
    assert [len(set(labels[i : i + 20])) for i in (0, 20, 40)] == [1, 1, 1]
    assert run("cluster", "features.npy", "-k", 3, "--out", "again", *FAST, "--fit-rows", 30) == 0
    same = (Path(out, "labels.csv").read_bytes() for out in ("out", "again"))
    assert len(set(same)) == 1


def test_all_other_rows_can_be_neighbours(work):
    assert audit("--neighbors", 59) == 0
    assert audit("--neighbors", 60, out="none") == 2


def test_an_audit_of_clusters_judges_them_as_clustering_did(work):
    assert run("cluster", "features.npy", "-k", 3, "--out", "first", *FAST) == 0
    arguments = ["--neighbors", 10, "--threshold", 0.95]
    assert run("audit", "features.npy", "first/labels.npy", "--out", "second", *arguments) == 0
    for first, second in zip(table("first/labels.csv"), table("second/labels.csv"), strict=True):
        assert second["confidence"] == ""
        assert first | {"confidence": ""} == second


def test_audit_finds_the_wrong_label(work, capsys):
    assert audit() == 0
    assert set(left_in("out")) == FILES
    (worst,) = table("out/doubtful.csv")
    assert (worst["rank"], worst["row"], worst["label"], worst["suggested"]) == ("1", "7", "2", "0")
    assert float(worst["reliability"]) == 0
    np.testing.assert_array_equal(np.load("out/labels.npy"), np.load("labels.npy"))
    assert np.load("out/reliable_labels.npy")[7] == -1
    assert "60 rows, 3 classes; 59 of 60 labels are reliable, 1 rows" in capsys.readouterr().out


def test_audit_takes_strings_and_unlabelled_rows(work):
    names = np.array(["ant", "bee, <i>", "=cat()"])[np.load("labels.npy")]
    names[[3, 4]] = ["", "-1"]
    np.save("labels.npy", names)
    assert audit() == 0
    rows = table("out/labels.csv")
    assert [rows[i]["label"] for i in (0, 3, 4, 20, 40)] == ["ant", "", "", "bee, <i>", "=cat()"]
    assert rows[3]["suggested"] == "ant"
    assert rows[3]["reliable"] == "0"
    assert table("out/doubtful.csv")[0]["suggested"] == "ant"
    kept = np.load("out/reliable_labels.npy")
    assert kept[[20, 3, 7]].tolist() == ["bee, <i>", "", ""]
    page = Path("out/report.html").read_text()
    assert "bee, &lt;i&gt;" in page
    assert "<i>" not in page


def test_nothing_is_suggested_where_no_neighbour_has_a_label(work):
    labels = np.load("labels.npy")
    labels[:20] = -1
    np.save("labels.npy", labels)
    assert audit("--neighbors", 5) == 0
    suggested = [row["suggested"] for row in table("out/labels.csv")]
    assert (suggested[:20], set(suggested[20:])) == ([""] * 20, {"1", "2"})


def test_the_report_is_told_what_the_command_was_told(work, monkeypatch):
    told = {}

    def spy(*arguments, **options):
        told.update(options)
        return render_report(*arguments, **options)

    monkeypatch.setattr(judging, "render_report", spy)
    options = ["--seed", 3, "--metric", "euclidean", "--map", "pca"]
    assert run("cluster", "features.npy", "-k", 3, "--out", "out", *options, *FAST) == 0
    assert [told[name] for name in ("seed", "metric", "map_kind")] == [3, "euclidean", "pca"]
    assert (told["noun"], told["title"]) == ("cluster", "Clusters of features.npy")
    written = [f"{x:.6f}" for x in told["confidence"].tolist()]
    assert written == [row["confidence"] for row in table("out/labels.csv")]


def test_a_cluster_that_nobody_is_in_is_listed(work, monkeypatch):
    def without_the_last(self, rows):
        probs = honest(self, rows)
        return np.column_stack([probs[:, 0], probs[:, 1] + probs[:, 2], np.zeros(len(rows))])

    honest = PrototypeClustering.predict_proba
    monkeypatch.setattr(PrototypeClustering, "predict_proba", without_the_last)
    assert run("cluster", "features.npy", "-k", 3, "--out", "out", *FAST) == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert [c["samples"] for c in summary["classes"]][2] == 0
    page = Path("out/report.html").read_text()
    assert " is empty." in page
    assert " No sample carries this label." in page


def test_the_same_labels_in_any_dress_give_the_same_answer(work):
    rows, labels = np.load("features.npy"), np.load("labels.npy")
    labels[0] = -1
    np.save("labels.npy", labels)
    assert audit() == 0
    expected = [(row["reliability"], row["doubt"]) for row in table("out/labels.csv")]
    text = ["" if label < 0 else f"{label}" for label in labels]
    columns = [f"{i},{label}\r\n" for i, label in enumerate(text)]
    Path("lines.txt").write_text("\n".join(text) + "\n")
    marked = "\n".join(["-1", *text[1:]]) + "\n"
    Path("marked.txt").write_text(marked, encoding="utf-8-sig")  # as some editors save it
    Path("table.csv").write_text("id,label\r\n" + "".join(columns), newline="")
    np.save("narrow.npy", labels.astype(np.int8))
    np.save("bytes.npy", np.array(text, dtype=np.bytes_))
    np.save("other ids.npy", np.where(labels < 0, -1, labels * 1000 + 10**12))
    np.savez("two.npz", a=labels[::-1], b=labels)
    save_file({"y": torch.from_numpy(labels)}, "labels.safetensors")
    save_file({"x": torch.from_numpy(rows).double(), "z": torch.ones(1)}, "rows.safetensors")
    np.save("big-endian.npy", rows.astype(">f8"))
    np.save("by column.npy", np.asfortranarray(rows))
    np.savez_compressed("rows.npz", rows)
    pairs = [("features.npy", name) for name in ("lines.txt", "table.csv", "narrow.npy")]
    pairs += [("features.npy", name) for name in ("marked.txt", "bytes.npy", "other ids.npy")]
    pairs += [("features.npy", "two.npz", "--label-key", "b"), ("rows.npz", "labels.safetensors")]
    pairs += [("rows.safetensors", "labels.npy", "--key", "x")]
    pairs += [("big-endian.npy", "labels.npy"), ("by column.npy", "labels.npy")]
    for number, (first, second, *more) in enumerate(pairs):
        out = f"out{number}"
        assert run("audit", first, second, *more, "--out", out, "--map", "none") == 0
        found = [(row["reliability"], row["doubt"]) for row in table(f"{out}/labels.csv")]
        assert found == expected, (first, second)


def test_half_precision_and_whole_numbers_are_features_too(work):
    pixels = np.clip(np.load("features.npy") * 10 + 50, 0, 255).astype(np.uint8)
    np.save("pixels.npy", pixels)
    np.save("half.npy", pixels.astype(np.float16))
    save_file({"x": torch.from_numpy(pixels).bfloat16()}, "bfloat.safetensors")
    for number, name in enumerate(["pixels.npy", "half.npy", "bfloat.safetensors"]):
        out = f"out{number}"
        assert run("audit", name, "labels.npy", "--out", out, "--map", "pca") == 0
        assert table(f"{out}/doubtful.csv")[0]["row"] == "7"


def test_a_large_file_is_mapped_and_answers_alike(work, monkeypatch):
    assert audit() == 0
    seen = []
    honest = judging.nearest_neighbors

    def watched(features, *arguments, **options):
        seen.append(type(features))
        return honest(features, *arguments, **options)

    monkeypatch.setattr(judging, "nearest_neighbors", watched)
    monkeypatch.setattr("pseudolabel.cli.reading._MAPPED_FROM", 0)
    assert audit(out="mapped") == 0
    assert seen == [np.memmap]
    assert table("out/labels.csv") == table("mapped/labels.csv")


# --- pictures ------------------------------------------------------------------------------------


def make_pictures(count=60):
    Path("pictures/b").mkdir(parents=True)
    Path("pictures/a").mkdir()
    for row in range(count):
        place = Path("pictures/a" if row < 30 else "pictures/b")
        name = f"{row:03d}<img src=x onerror=alert(1)>.png"
        Image.new("RGB", (90, 40), (row, 0, 0)).save(place / name)
    Path("pictures/notes.md").write_text("not a picture")


def test_pictures_match_rows_by_sorted_name(work):
    make_pictures()
    (broken,) = Path("pictures").glob("a/002*")
    broken.write_bytes(b"\x89PNG nothing")
    assert audit("--images", "pictures") == 0
    assert table("out/doubtful.csv")[0]["file"].startswith("007<img")
    page = Path("out/report.html").read_text()
    assert "<img src=x" not in page
    assert "007&lt;img src=x" in page
    assert 'src="data:image/jpeg;base64,' in page


def test_pictures_have_the_usual_endings(tmp_path):
    ends = ("bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp")
    for number, end in enumerate(ends):
        (tmp_path / f"{number}.{end}").touch()
        (tmp_path / f"{number + 10}.{end.upper()}").touch()
    (tmp_path / "0.svg").touch()
    found = [path.suffix[1:].lower() for path in list_pictures(tmp_path, 20)]
    assert sorted(found) == sorted(2 * ends)


def test_pictures_may_be_transparent(work):
    make_pictures()
    for file in Path("pictures").rglob("*.png"):
        Image.open(file).convert("P").save(file, transparency=0)
    assert audit("--images", "pictures") == 0
    page = Path("out/report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "no picture of" not in page
    assert judging._Opener([file])(0).mode == "RGBA"


def test_a_wrong_number_of_pictures_is_an_error(work, capsys):
    make_pictures(59)
    assert audit("--images", "pictures") == 2
    assert capsys.readouterr().err == (
        "pseudolabel: --images: expected 60 pictures, one a row, got 59 in pictures\n"
    )
    assert audit("--images", "nowhere") == 2
    assert not Path("out").exists()


# --- the folder ----------------------------------------------------------------------------------


def test_a_folder_that_holds_files_is_refused_unless_told_to_overwrite(work, capsys):
    Path("out").mkdir()
    Path("out/mine.txt").write_text("keep")
    assert audit() == 2
    assert "--out: expected an empty or new folder" in capsys.readouterr().err
    assert left_in("out") == ["mine.txt"]
    assert audit("--overwrite") == 0
    assert set(left_in("out")) == FILES | {"mine.txt"}
    assert audit("--overwrite", "--neighbors", 3) == 0
    assert json.loads(Path("out/summary.json").read_text())["settings"]["neighbors"] == 3


def test_an_input_is_never_replaced(work, capsys):
    before = Path("labels.npy").read_bytes()
    assert audit("--overwrite", out=".") == 2
    assert "expected a folder where labels.npy is not replaced" in capsys.readouterr().err
    assert Path("labels.npy").read_bytes() == before


def test_a_file_in_the_place_of_the_folder_is_an_error(work):
    Path("out").write_text("x")
    assert audit("--overwrite") == 2
    assert audit("--overwrite", out="out/below") == 2
    assert Path("out").read_text() == "x"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (MemoryError(), 1, "MemoryError"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
    ],
)
@pytest.mark.parametrize("place", ["render_report", "nearest_neighbors"])
def test_what_fails_midway_leaves_nothing(work, monkeypatch, capsys, error, code, said, place):
    def fail(*_, **__):
        raise error

    assert audit(out="old") == 0
    kept = {name: (Path("old") / name).read_bytes() for name in FILES}
    monkeypatch.setattr(judging, place, fail)
    assert audit(out="new/er") == code
    assert said in capsys.readouterr().err
    assert not Path("new").exists()
    assert audit("--overwrite", out="old") == code
    assert {name: (Path("old") / name).read_bytes() for name in left_in("old")} == kept


def test_no_summary_stands_beside_files_that_are_not_its_own(work, monkeypatch):
    assert audit() == 0
    honest = folder.Path.replace

    def fail_at_the_report(self, target):
        if self.name == "report.html":
            raise OSError("broken disk")
        return honest(self, target)

    monkeypatch.setattr(folder.Path, "replace", fail_at_the_report)
    assert audit("--overwrite") == 1
    assert "summary.json" not in left_in("out")


# --- as a program --------------------------------------------------------------------------------


def shell(*arguments, code=None, **options):
    command = [sys.executable, *(["-c", code] if code else ["-m", "pseudolabel"]), *arguments]
    environment = os.environ | {"PYTHONPATH": SOURCES}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_it_runs_as_a_module_and_shows_progress_on_stderr(work):
    process = shell("audit", "features.npy", "labels.npy", "--out", "out", "--map", "none")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.splitlines()[1] == str(Path("out/report.html"))
    assert "neighbours" in err
    assert "4/4" in err
    assert "Warning" not in err


def test_names_a_line_are_classes_and_an_empty_line_is_none(work):
    names = np.array(["ant", "10", "cat"])[np.load("labels.npy")]  # not all of them numbers
    names[[3, 30]] = ""
    np.save("names.npy", names)
    Path("names.txt").write_text("\n".join(f" {name}" for name in names) + "\n")
    for file, out in (("names.npy", "array"), ("names.txt", "text")):
        assert run("audit", "features.npy", file, "--out", out, "--map", "pca") == 0
    assert table("text/labels.csv") == table("array/labels.csv")
    assert {row["label"] for row in table("text/labels.csv")} == {"ant", "10", "cat", ""}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_report_names_the_metric(work, metric):
    options = ("--out", "out", "--map", "none", "--metric", metric)
    assert run("audit", "features.npy", "labels.npy", *options) == 0
    assert f"nearest neighbours ({metric}) carry" in Path("out/report.html").read_text()
    settings = json.loads(Path("out/summary.json").read_text())["settings"]
    assert (settings["command"], settings["metric"]) == ("audit", metric)


def test_a_text_of_whole_numbers_is_of_numbers(tmp_path):
    path = tmp_path / "y.txt"
    path.write_text("10\n+2\n02\n-1\n\n")
    labels = read_labels(path, None, 5)
    assert labels.names == ["2", "10"]
    assert labels.codes.tolist() == [1, 0, 0, -1, -1]
    assert labels.given.tolist() == [10, 2, 2, -1, -1]
    path.write_text("10\n+2\nant")
    assert read_labels(path, None, 3).names == ["+2", "10", "ant"]


def test_minus_one_among_names_is_no_name(tmp_path):
    np.save(tmp_path / "y.npy", np.array(["b", "-1", "a", ""]))
    (tmp_path / "y.txt").write_text("b\n-1\na\n\n")
    for file in ("y.npy", "y.txt"):
        labels = read_labels(tmp_path / file, None, 4)
        assert labels.names == ["a", "b"]
        assert labels.codes.tolist() == [1, -1, 0, -1]


def test_pictures_are_in_the_order_of_their_folders(tmp_path):
    for name in ("b/1.png", "a/2.png", "a/b/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_pictures(tmp_path, 3)]
    assert found == ["a/2.png", "a/b/0.png", "b/1.png"]


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_large_whole_numbers_stay_apart(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.array([[2**24], [2**24 + 1]], dtype))
    features = read_features(tmp_path / "x.npy", None)
    assert features.tolist() == [[2.0**24], [2.0**24 + 1]]


def test_blanks_and_empty_lines_mean_the_same_in_every_file(tmp_path):
    names = ["ant ", "", " bee", "ant", "  "]
    np.save(tmp_path / "y.npy", np.array(names))
    (tmp_path / "y.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "y.csv").write_text("label\n" + "\n".join(names) + "\n")
    (tmp_path / "table.csv").write_text("a,label\n\n" + "".join(f"1,{x}\n\n" for x in names))
    for file in ("y.npy", "y.txt", "y.csv", "table.csv"):
        labels = read_labels(tmp_path / file, None, 5)
        assert labels.names == ["ant", "bee"], file
        assert labels.codes.tolist() == [0, -1, 1, 0, -1]
        assert labels.given.tolist() == ["ant", "", "bee", "ant", ""]


def test_the_program_ends_with_the_code_of_the_command(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)  # does not come back in truth
    for code in (0, 1, 2, 130):
        monkeypatch.setattr("pseudolabel.cli.main", lambda code=code: code)
        with pytest.raises(SystemExit) as end:
            entry()
        assert end.value.code == code
    assert ended == [130]


def test_an_interrupt_ends_with_130_and_leaves_nothing(work):
    rows = np.random.default_rng(0).normal(size=(4000, 64))
    np.save("many.npy", rows)
    arguments = ["--max-iter", "100000", "--no-early-stopping"]
    process = shell("cluster", "many.npy", "-k", "9", "--out", "new/out", *arguments)
    seen = ""
    while "training" not in seen:
        seen += (character := process.stderr.read(1))
        assert character, seen
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.endswith("pseudolabel: interrupted; nothing was written\n")
    assert "Traceback" not in err
    assert not Path("new").exists()


def test_a_missing_extra_is_named_in_one_line():
    code = (
        "import sys; sys.modules['tyro'] = None\nfrom pseudolabel.cli import main\nsys.exit(main())"
    )
    process = shell("audit", code=code)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err == 'pseudolabel: tyro is not installed; pip install "pseudolabel[cli]"\n'


def test_importing_the_report_loads_no_extra():
    code = (
        "import sys, pseudolabel.report, pseudolabel.cli\n"
        "print([m for m in ('jinja2', 'PIL', 'tyro', 'safetensors') if m in sys.modules])"
    )
    out, _ = shell(code=code).communicate(timeout=300)
    assert out == "[]\n"


# --- the page about it ---------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "command.md"


def test_the_how_to_runs_as_it_is_written(work, capsys):
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == ["sh", "python", "sh", "sh", "python", "python"]
    assert blocks[0][1] == 'pip install ".[cli]"\n'
    names = {}
    for kind, block in blocks[1:]:
        if kind == "python":
            exec(block, names)
        else:
            program, *arguments = shlex.split(block)
            assert program == "pseudolabel"
            assert run(*arguments) == 0
    found = re.search(
        r"^(\d+) of the first 90 were changed$", capsys.readouterr().out, re.MULTILINE
    )
    assert int(found[1]) > 80
    assert "<h1>My run</h1>" in Path("report.html").read_text()
