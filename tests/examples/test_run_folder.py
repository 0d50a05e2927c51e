import json

import pytest
import torch
from common.run_folder import RunFolder
from safetensors.torch import load_file


def test_a_folder_that_holds_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "metrics.json").write_text("precious")
    with pytest.raises(FileExistsError, match=r"expected an empty or new folder.*--overwrite"):
        RunFolder(tmp_path)
    assert (tmp_path / "metrics.json").read_text() == "precious"


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("precious")
    with pytest.raises(NotADirectoryError, match="expected a folder for the run, got a file"):
        RunFolder(path, existing="overwrite")


def test_new_empty_and_overwritten_folders_are_taken(tmp_path):
    RunFolder(tmp_path / "new" / "deeper").write_json("a.json", 1)
    RunFolder(tmp_path / "new" / "deeper", existing="overwrite").write_json("a.json", 2)
    assert json.loads((tmp_path / "new" / "deeper" / "a.json").read_text()) == 2
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty")


def test_an_overwritten_folder_keeps_nothing_of_a_write_that_was_killed(tmp_path):
    (tmp_path / ".labels.csv.part.csv").write_text("half of")
    RunFolder(tmp_path, existing="overwrite")
    assert not any(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("a.json", [1, 2])

    def fails(path):
        path.write_text("half of")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        folder.write("a.json", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == [1, 2]


def test_tensors_of_any_layout_come_back(tmp_path):
    tensors = {
        "a": torch.randn(4, 3).T,
        "b": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "c": torch.tensor(3),
    }
    tensors["shared"] = tensors["a"]
    RunFolder(tmp_path).write_tensors("t.safetensors", tensors)
    loaded = load_file(tmp_path / "t.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_table_is_csv(tmp_path):
    RunFolder(tmp_path).write_table("t.csv", ["a", "b"], [(1, "x"), (2, "y,z")])
    assert (tmp_path / "t.csv").read_text() == 'a,b\n1,x\n2,"y,z"\n'
