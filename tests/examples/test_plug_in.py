"""The plug-ins run, learn from no class, and differ from the loop of the other side by ten lines."""

import ast
import difflib
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "plug_in"
PAGE = ROOT / "docs" / "plug-in.md"
NAMES = ("scan", "fixmatch", "embeddings")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for module in [m for m in sys.modules.values() if m and is_of_the_folder(m)]:
        del sys.modules[module.__name__]


def is_of_the_folder(module):
    return Path(getattr(module, "__file__", None) or "/").parent == FOLDER


@pytest.fixture
def embeddings(tmp_path):
    given = importlib.import_module("given")
    images, truth = (tensor.numpy() for tensor in given.digits())
    given.write_embeddings(tmp_path / "features.npz", images[:400], truth[:400])
    return tmp_path / "features.npz"


def lines(name, side):
    return (FOLDER / f"{name}_{side}.py").read_text().splitlines()


def changed_lines(before, after):
    """Of every run of changes the lines taken out or put in, whichever are more."""
    opcodes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in opcodes if tag != "equal")


def test_changed_lines_worked_by_hand():
    assert changed_lines(list("abcdef"), list("abcdef")) == 0
    assert changed_lines(list("abcdef"), list("aXYdef")) == 2
    assert changed_lines(list("abcdef"), list("bcXdeYZf")) == 1 + 1 + 2


@pytest.mark.parametrize("name", NAMES)
def test_at_most_ten_lines_change(name):
    assert 0 < changed_lines(lines(name, "before"), lines(name, "after")) <= 10


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_change(name):
    """Every line that changes stands in a diff on the page, and no other does."""
    shown = "\n".join(re.findall(r"^```diff\n(.*?)^```", PAGE.read_text(), re.M | re.S))
    blocks = {title: text for title, text in re.findall(r"^--- (\w+)_before.py\n(.*?)(?=^---|\Z)", shown, re.M | re.S)}
    block = blocks[name].splitlines()[1:]
    changes = [line for line in difflib.ndiff(lines(name, "before"), lines(name, "after")) if line[0] in "+-"]
    changes = sorted(line[0] + line[2:] for line in changes if line[2:].strip())
    assert sorted(line for line in block if line[0] in "+-") == changes


@pytest.mark.parametrize("side", ["before", "after"])
def test_self_labelling_runs(side):
    loop = importlib.import_module(f"scan_{side}")
    scores = loop.main(seed=0, epochs=1)
    assert scores["start"] > 0.6
    assert scores["end"] > 0.6
    assert scores == loop.main(seed=0, epochs=1)


@pytest.mark.parametrize("side", ["before", "after"])
def test_the_algorithm_runs(side):
    loop = importlib.import_module(f"fixmatch_{side}")
    scores = loop.main(seed=0, steps=30, labelled=4)
    assert scores["accuracy"] > 0.5
    assert 0 < scores["kept"] <= 1


@pytest.mark.parametrize("side", ["before", "after"])
def test_embeddings_are_clustered(side, embeddings):
    scores = importlib.import_module(f"embeddings_{side}").main(embeddings)
    assert all(0.5 < score < 1 for score in scores.values())
