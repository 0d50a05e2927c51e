"""Malformed files and wrong options: one line that says what to change, exit code 2, no trace."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pseudolabel.cli import main

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
LABELS = np.arange(20) % 2


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", ROWS)
    np.save("labels.npy", LABELS)
    return tmp_path


def refused(capsys, *arguments):
    """The one line on stderr of a command that must fail."""
    before = sorted(Path.cwd().rglob("*"))
    assert main([*map(str, arguments), "--out", "out", "--quiet"]) == 2
    assert sorted(Path.cwd().rglob("*")) == before
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pseudolabel: ")
    assert err.count("\n") == 1
    return err


def with_value(value, row=17, column=1):
    rows = ROWS.copy()
    rows[row, column] = value
    return rows


def truncated(array):
    def write(path):
        np.save(path, array)
        path.write_bytes(path.read_bytes()[:-7])

    return write


def saved(array):
    return lambda path: np.save(path, array, allow_pickle=array.dtype == object)


def evil(path):
    """A pickle that would leave a file behind if it were loaded."""

    class Evil:
        def __reduce__(self):
            return (Path("evil").touch, ())

    path.write_bytes(pickle.dumps(Evil()))


def evil_inside(path):
    with zipfile.ZipFile(path, "w") as archive:
        evil(Path("inside"))
        archive.write("inside", "x.npy")
        Path("inside").unlink()


FEATURES = {
    "nan": ("x.npy", saved(with_value(np.nan)), "got nan in row 17, column 1, counted from 0"),
    "inf": ("x.npy", saved(with_value(-np.inf, 0, 2)), "got -inf in row 0, column 2"),
    "one axis": ("x.npy", saved(ROWS[0]), "expected shape (rows, columns)"),
    "three axes": ("x.npy", saved(ROWS[None]), "got shape (1, 20, 3)"),
    "one row": ("x.npy", saved(ROWS[:1]), "two rows or more, got shape (1, 3)"),
    "no row": ("x.npy", saved(ROWS[:0]), "x.npy: expected"),
    "no column": ("x.npy", saved(ROWS[:, :0]), "x.npy: expected"),
    "complex": ("x.npy", saved(ROWS * 1j), "got dtype complex"),
    "text": ("x.npy", saved(ROWS.astype(str)), "expected numbers of at most 64 bits"),
    "bool": ("x.npy", saved(ROWS > 0), "got dtype bool"),
    "objects": ("x.npy", saved(ROWS.astype(object)), "would have to be unpickled"),
    "truncated": ("x.npy", truncated(ROWS), "expected a whole .npy file"),
    "empty file": ("x.npy", lambda path: path.write_bytes(b""), "expected a whole .npy file"),
    "not an array": ("x.npy", lambda path: path.write_text("1,2\n3,4\n"), "whole .npy file"),
    "pickle": ("x.npy", evil, "expected a whole .npy file"),
    "pickle in npz": ("x.npz", evil_inside, "an entry that is no array"),
    "objects in npz": (
        "x.npz",
        lambda path: np.savez(path, ROWS.astype(object)),
        "would have to be unpickled",
    ),
    "npz that is none": ("x.npz", lambda path: path.write_bytes(b"PK\3\4junk"), "whole .npz file"),
    "empty npz": ("x.npz", lambda path: np.savez(path), "something in it, got an empty file"),
    "text for npz": ("x.npz", lambda path: path.write_text("zip"), "got no zip archive"),
    "two arrays": (
        "x.npz",
        lambda path: np.savez(path, a=ROWS, b=ROWS),
        "one of 'a', 'b', got None",
    ),
    "safetensors that is none": (
        "x.safetensors",
        lambda path: path.write_bytes(b"\xff" * 50),
        "whole .safetensors file",
    ),
    "two tensors": (
        "x.safetensors",
        lambda path: save_file({"a": torch.ones(2), "b": torch.ones(2)}, path),
        "--key to be one of 'a', 'b'",
    ),
    "a table": ("x.csv", lambda path: path.write_text("1,2\n"), "a name that ends in .npy, .npz"),
    "a folder": ("x.npy", lambda path: path.mkdir(), "expected a file, got a folder"),
    "nothing": ("x.npy", lambda path: None, "got nothing of that name"),
    "a name of two\nlines\x1b[31m": ("x\n\x1b.npy", saved(ROWS[0]), "x \ufffd.npy: expected shape"),
}


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("command", ["cluster", "audit"])
def test_malformed_features(work, capsys, name, command):
    file, write, said = FEATURES[name]
    write(Path(file))
    more = ["-k", 2] if command == "cluster" else ["labels.npy"]
    assert said in refused(capsys, command, file, *more)
    assert not Path("evil").exists()


LABEL_FILES = {
    "too few": (
        "y.npy",
        saved(LABELS[:-1]),
        "expected 20 labels, one a row of the features, got 19",
    ),
    "two axes": ("y.npy", saved(LABELS[:, None]), "got shape (20, 1)"),
    "no axis": ("y.npy", saved(np.array(3)), "expected shape (rows,)"),
    "floats": ("y.npy", saved(LABELS * 1.0), "expected integers or strings, got dtype float64"),
    "bools": ("y.npy", saved(LABELS > 0), "got dtype bool"),
    "below -1": ("y.npy", saved(LABELS - 2), "or -1 for none, got -2 in row 0"),
    "too large": ("y.npy", saved(LABELS.astype(np.uint64) + 2**63), "integers below 2**63"),
    "none labelled": ("y.npy", saved(np.full(20, -1)), "at least one labelled row"),
    "only empty": ("y.npy", saved(np.full(20, "")), "at least one labelled row"),
    "objects": ("y.npy", saved(np.array(["a"] * 20, dtype=object)), "would have to be unpickled"),
    "bytes": ("y.npy", saved(np.array([b"\xff"] * 20)), "expected text in UTF-8"),
    "truncated": ("y.npy", truncated(LABELS), "expected a whole .npy file"),
    "no such column": (
        "y.csv",
        lambda path: path.write_text("a,b\n1,2\n"),
        "--label-key to be one of 'a', 'b', got 'label'",
    ),
    "short line": (
        "y.csv",
        lambda path: path.write_text("a,label\n" + "1,2\n" * 19 + "1\n"),
        "expected a label in line 21, got a line that ends before",
    ),
    "torn table": ("y.csv", lambda path: path.write_text('label\n"a\n'), "expected text in UTF-8"),
    "binary text": ("y.txt", lambda path: path.write_bytes(b"\xff\xfe"), "expected text in UTF-8"),
    "one long label": (
        "y.txt",
        lambda path: path.write_text("a\n" * 19 + "b" * 1001),
        "labels of at most 1000 characters, got 1001",
    ),
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_malformed_labels(work, capsys, name):
    file, write, said = LABEL_FILES[name]
    write(Path(file))
    told = refused(capsys, "audit", "good.npy", file)
    assert said in told
    assert file in told


def test_identifiers_are_no_classes(work, capsys):
    np.save("rows.npy", np.ones((5001, 1)))
    np.save("y.npy", np.arange(5001))
    said = refused(capsys, "audit", "rows.npy", "y.npy")
    assert "at most 5000 classes, got 5001; are these identifiers?" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-k", 21], "--n-clusters: expected a whole number in [1, 20], got 21"),
        (["-k", 0], "--n-clusters: expected"),
        (["-k", 2, "--neighbors", 20], "--neighbors: expected a whole number in [1, 19], got 20"),
        (["-k", 2, "--neighbors", 0], "--neighbors: expected"),
        (["-k", 2, "--threshold", 1.5], "--threshold: expected a number in [0, 1], got 1.5"),
        (["-k", 2, "--threshold", "nan"], "--threshold: expected"),
        (["-k", 2, "--seed", -1], "--seed: expected"),
        (["-k", 2, "--device", "abacus"], "--device: expected one that torch can use"),
        (["-k", 2, "--device", "meta"], "--device: expected one that torch can use"),
        (["-k", 3, "--class-prior", 1, 2], "class_prior: expected 3 positive numbers"),
        (["-k", 2, "--n-heads", 0], "n_heads: expected"),
        (["-k", 2, "--learning-rate", 0], "learning_rate: expected"),
        (["-k", 2, "--fit-rows", 1], "--fit-rows: expected a whole number of 2 or more, got 1"),
        (["-k", 2, "--key", "x"], "good.npy: expected no --key for a .npy file, got 'x'"),
    ],
)
def test_options_out_of_range(work, capsys, options, said):
    assert said in refused(capsys, "cluster", "good.npy", *options)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["cluster"],
        ["cluster", "good.npy", "--out", "out"],
        ["cluster", "good.npy", "-k", "many", "--out", "out"],
        ["cluster", "good.npy", "-k", "2"],
        ["cluster", "good.npy", "-k", "2", "--out", "out", "--loss", "l2"],
        ["audit", "good.npy", "--out", "out"],
        ["audit", "good.npy", "labels.npy", "--out", "out", "--unknown"],
    ],
)
def test_wrong_usage_exits_with_2(work, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err
    assert not Path("out").exists()


def test_help_and_version_exit_with_0(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["cluster", "--help"])
    assert stop.value.code == 0
    assert "--n-clusters" in capsys.readouterr().out
    assert main(["--version"]) == 0


def test_the_first_bad_value_is_named_in_files_read_in_blocks(work, capsys, monkeypatch):
    monkeypatch.setattr("pseudolabel.cli.reading._BLOCK_VALUES", 12)
    rows = with_value(np.nan, row=9)
    rows[11, 0] = np.inf
    np.save("x.npy", rows)
    assert "got nan in row 9, column 1," in refused(capsys, "cluster", "x.npy", "-k", 2)
